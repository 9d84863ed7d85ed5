//! PURE: what an operator does about a failure that passes by nobody's doing but theirs, by its code.

/// Beginnings and parts of codes, and what to do. The first that fits counts.
const STEPS: [(&str, &str); 25] = [
    ("dead_letters_full", "redrive or discard some dead letters (`turnstiled dlq`)"),
    ("PreconditionFailed", "move the other object away; last_error in /v1/sinks names its key"),
    ("NoCredentials", CREDENTIALS),
    ("Token", CREDENTIALS),
    ("UnrecognizedClient", CREDENTIALS),
    ("InvalidAccessKeyId", CREDENTIALS),
    ("Signature", CREDENTIALS),
    ("IncompleteSignature", CREDENTIALS),
    ("RequestTimeTooSkewed", "set this machine's clock"),
    ("RequestExpired", "set this machine's clock"),
    ("KMS", KEY),
    ("Kms", KEY),
    ("AccessDenied", RIGHTS),
    ("Authorization", RIGHTS),
    ("NotAuthorized", RIGHTS),
    ("NoSuch", MISSING),
    ("NotFound", MISSING),
    ("NonExistent", MISSING),
    ("DoesNotExist", MISSING),
    ("no storage space", "free some space on this machine's disk"),
    ("permission denied", "let this server write where last_error in /v1/sinks says"),
    ("read-only", "let this server write where last_error in /v1/sinks says"),
    ("RequestNot", "look at the sink's settings: the request cannot be made of them"),
    ("Validation", "look at the table's keys (strings PK and SK) and at the names in the sink's settings"),
    ("Http", "look at the sink's URL or endpoint_url and at proxies: /v1/sinks shows what the answer says"),
];
const CREDENTIALS: &str = "renew the credentials: environment, profile or role of this server";
const RIGHTS: &str = "allow this server's role the action, in its policy and in the resource's";
const KEY: &str = "enable the KMS key and let this server's role use it";
const MISSING: &str =
    "create it, or mend its name, region or endpoint_url in the configuration and reload it";
const OTHERS: &str = "look at the service and at the sink's settings";

/// What to do next about a held sink, by the code of its trouble.
#[must_use]
pub fn next_step(code: &str) -> &'static str {
    STEPS.iter().find(|(part, _)| code.contains(part)).map_or(OTHERS, |(_, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_has_its_step() {
        for (code, step) in [
            ("NoSuchBucket", MISSING),
            ("ResourceNotFoundException", MISSING),
            ("AWS.SimpleQueueService.NonExistentQueue", MISSING),
            ("QueueDoesNotExist", MISSING),
            ("AccessDeniedException", RIGHTS),
            ("AuthorizationError", RIGHTS),
            ("KMSAccessDeniedException", KEY),
            ("KMS.DisabledException", KEY),
            ("NoCredentials", CREDENTIALS),
            ("ExpiredTokenException", CREDENTIALS),
            ("InvalidClientTokenId", CREDENTIALS),
            ("SignatureDoesNotMatch", CREDENTIALS),
            ("SomethingNobodyHasSeen", OTHERS),
        ] {
            assert_eq!(next_step(code), step, "{code}");
        }
        assert!(next_step("ValidationException").contains("PK"));
        assert!(next_step("Http404").contains("URL"));
    }
}
