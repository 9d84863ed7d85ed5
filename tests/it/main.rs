//! The integration tests: one program, so that there is one link step.
//!
//! Tests of the daemon start the real binary as a process of its own, on a free port and a data directory
//! of its own ([`daemon`]); AWS is the emulator ([`moto`]). `make test` brings what they need.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "seeds and counts of a run")]

mod aws;
mod certificates;
mod chain;
mod collector;
mod consumer;
mod cut_fs;
mod daemon;
mod fake_service;
mod http;
mod moody_queue;
mod moto;
mod provider;
mod proxy;
mod random;
mod service_manager;
mod sinks;
mod small_disk;
mod traffic;
mod trimmed;
mod wait;

mod access;
mod admin_listen;
mod against;
mod athena;
mod authorisation;
mod bad_input;
mod canned_answers;
mod card_files;
mod card_sync;
mod cards;
mod cli;
mod dead_letters;
mod dead_sink;
mod demo;
mod detach;
mod device_events;
mod dlq;
mod drill;
mod evacuation;
mod faults;
mod feed;
mod full_disk;
mod groups;
mod held;
mod history;
mod hostile;
mod keys;
mod kill9;
mod kinesis;
mod kinesis_aggregated;
mod layers;
mod letter_mirror;
mod lifecycle;
mod long_outage;
mod lost_state;
mod metrics;
mod modes;
mod outage;
mod partial_failures;
mod people;
mod power_cut;
mod presence;
mod redrive_crash;
mod refused_start;
mod reload;
mod reload_load;
mod repair;
mod replay;
mod replay_archive;
mod replay_live;
mod replay_state;
mod routes;
mod s3;
mod s3_once;
mod schemathesis;
mod sinks_moto;
mod snapshots;
mod stdout_sink;
mod swipes;
mod tls;
mod traces;
mod traces_tls;
mod webhook;
mod whole_job;
