//! `turnstiled keys`: API keys of devices. Works beside a running daemon, which goes by the change once it has returned.

use std::io::Write;

use clap::{Subcommand, ValueEnum};

use super::{CommandError, ConfigFile, Verdict};
use crate::{
    clock,
    config::Config,
    domain::ids::{BuildingId, GateId},
    http::auth::{
        device_keys::{self, DeviceKind},
        key_use,
    },
};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key; it goes to stdout, once, only its hash is kept
    Add {
        /// The building it is for
        #[arg(long)]
        building: String,
        /// The gate it is for; without it every gate of the building
        #[arg(long)]
        gate: Option<String>,
        /// What the device is
        #[arg(long, value_enum, default_value_t)]
        kind: Kind,
        /// For people, such as "north entrance, left"
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// List all keys, without their secrets; "last used" is up to a minute old
    List {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// End a key
    Revoke {
        /// Such as k_7f3a12cd
        id: String,
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A turnstile
    #[default]
    Gate,
    /// A fire or security panel
    Panel,
    /// For people, in place of a token: the role security in one building, for the day on which nobody gets a token
    BreakGlass,
}

pub(super) fn run(keys: Keys, out: &mut impl Write) -> Result<Verdict, CommandError> {
    match keys {
        Keys::Add { building, gate, kind, name, file } => {
            let config = file.load()?;
            if gate.is_some() && kind != Kind::Gate {
                return Err("a key of this kind is for the whole building: leave --gate out".into());
            }
            let (building, gate) = find(&config, &building, gate.as_deref())?;
            let kind = match kind {
                Kind::Gate => DeviceKind::Gate,
                Kind::Panel => DeviceKind::Panel,
                Kind::BreakGlass => DeviceKind::BreakGlass,
            };
            let devices = &config.auth.devices;
            let key = device_keys::add(devices, building, gate, kind, name, clock::wall())?;
            writeln!(out, "{key}")?;
        }
        Keys::List { file } => {
            let config = file.load()?;
            let devices = device_keys::list(&config.auth.devices)?;
            let used = key_use::read(&key_use::path(&config.server.data_dir));
            writeln!(
                out,
                "{:<11} {:<16} {:<16} {:<11} {:<24} {:<24} name",
                "id", "building", "gate", "kind", "created", "last used"
            )?;
            for device in devices {
                let gate = device.gate.as_ref().map_or("*", GateId::as_str);
                let (kind, created) = (device.kind.as_str(), device.created_at);
                let last = used.get(&device.id).map_or_else(|| "-".to_owned(), ToString::to_string);
                let name = device.name.as_deref().unwrap_or_default();
                let (id, building) = (&device.id, device.building.as_str());
                writeln!(out, "{id:<11} {building:<16} {gate:<16} {kind:<11} {created} {last:<24} {name}")?;
            }
        }
        Keys::Revoke { id, file } => device_keys::revoke(&file.load()?.auth.devices, &id)?,
    }
    Ok(Verdict::Passed)
}

/// A key for a building or gate that is not there would never open anything.
fn find(
    config: &Config,
    building: &str,
    gate: Option<&str>,
) -> Result<(BuildingId, Option<GateId>), CommandError> {
    let found = config.buildings.iter().find(|known| known.rules.building.as_str() == building);
    let Some(found) = found else {
        let known: Vec<&str> = config.buildings.iter().map(|known| known.rules.building.as_str()).collect();
        return Err(
            format!("no building {building:?} in the configuration; there is {}", known.join(", ")).into()
        );
    };
    let Some(gate) = gate else { return Ok((found.rules.building.clone(), None)) };
    match found.rules.gates.iter().find(|known| known.as_str() == gate) {
        Some(gate) => Ok((found.rules.building.clone(), Some(gate.clone()))),
        None => {
            let mut known: Vec<&str> = found.rules.gates.iter().map(GateId::as_str).collect();
            known.sort_unstable();
            Err(format!("building {building} has no gate {gate:?}; it has {}", known.join(", ")).into())
        }
    }
}
