//! The fields of an `AuthenticationConfiguration`.

use crate::config::strict::Shape;

const CLAIM_RULE: Shape = Shape::Fields(&[
    ("claim", Shape::Text),
    ("requiredValue", Shape::Text),
    ("expression", Shape::Text),
    ("message", Shape::Text),
]);

const USER_RULE: Shape = Shape::Fields(&[("expression", Shape::Text), ("message", Shape::Text)]);

const EXTRA: Shape = Shape::Fields(&[("key", Shape::Text), ("valueExpression", Shape::Text)]);

const PREFIXED: Shape =
    Shape::Fields(&[("claim", Shape::Text), ("prefix", Shape::Text), ("expression", Shape::Text)]);

const JWT: Shape = Shape::Fields(&[
    (
        "issuer",
        Shape::Fields(&[
            ("url", Shape::Text),
            ("discoveryURL", Shape::Text),
            ("certificateAuthority", Shape::Text),
            ("audiences", Shape::List(&Shape::Text)),
            ("audienceMatchPolicy", Shape::Text),
            ("egressSelectorType", Shape::Text),
        ]),
    ),
    ("claimValidationRules", Shape::List(&CLAIM_RULE)),
    (
        "claimMappings",
        Shape::Fields(&[
            ("username", PREFIXED),
            ("groups", PREFIXED),
            ("uid", Shape::Fields(&[("claim", Shape::Text), ("expression", Shape::Text)])),
            ("extra", Shape::List(&EXTRA)),
        ]),
    ),
    ("userValidationRules", Shape::List(&USER_RULE)),
]);

pub const AUTHENTICATION: Shape = Shape::Fields(&[
    ("jwt", Shape::List(&JWT)),
    (
        "anonymous",
        Shape::Fields(&[
            ("enabled", Shape::Flag),
            ("conditions", Shape::List(&Shape::Fields(&[("path", Shape::Text)]))),
        ]),
    ),
]);
