//! The table of problems.

use hyper::StatusCode;

/// What is constant about a kind of problem.
#[derive(Debug)]
pub struct Text {
    /// Last segment of its `type` and of its page's path.
    pub slug: &'static str,
    /// Its status.
    pub status: StatusCode,
    /// Its title, the same for every occurrence.
    pub title: &'static str,
    /// What it means, in one or two sentences.
    pub meaning: &'static str,
    /// What the caller can do about it.
    pub remedy: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $slug:literal, $status:ident, $title:literal,
        $meaning:literal, $remedy:literal;)+) => {
        /// Which problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $meaning] $kind,)+
        }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// What is constant about it.
            #[must_use]
            pub fn text(self) -> &'static Text {
                match self {
                    $(Kind::$kind => &Text {
                        slug: $slug,
                        status: StatusCode::$status,
                        title: $title,
                        meaning: $meaning,
                        remedy: $remedy,
                    },)+
                }
            }
        }
    };
}

kinds! {
    BadRequest = "bad-request", BAD_REQUEST, "Bad request",
        "The request breaks a rule of HTTP or of one of its headers.",
        "Read the detail, correct the request and send it again.";
    MalformedBody = "malformed-body", BAD_REQUEST, "Malformed body",
        "The body is not JSON.",
        "Send one JSON document in UTF-8 without a byte order mark.";
    InvalidFormula = "invalid-formula", BAD_REQUEST, "Invalid formula",
        "The body is JSON but no valid formula. Nothing was stored.",
        "Correct what the list of errors names; each carries a JSON pointer.";
    InvalidBody = "invalid-body", BAD_REQUEST, "Invalid body",
        "The body is JSON but not what this call takes. Nothing was changed.",
        "Correct what the list of errors names; each carries a JSON pointer.";
    InvalidQuery = "invalid-query", BAD_REQUEST, "Invalid query",
        "A query parameter is unknown, repeated or out of range.",
        "Correct what the list of errors names; each carries the parameter.";
    GroupExists = "group-exists", BAD_REQUEST, "Group exists",
        "A group of this name is on this server already. Nothing was changed.",
        "Take it as done, or delete the group first.";
    KeyMissing = "missing-idempotency-key", BAD_REQUEST, "Missing Idempotency-Key header",
        "This server wants an Idempotency-Key with every request that creates something.",
        "Send a fresh random key, and the same key again when the request is repeated.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "Unauthorized",
        "The request carries no bearer token, or one that this server does not know.",
        "Send the header Authorization: Bearer followed by a token from the operator.";
    Forbidden = "missing-scope", FORBIDDEN, "Missing scope",
        "The token is known, but lacks the scope that this call needs.",
        "Ask the operator for a token with the scope that the detail names.";
    QueueReserved = "reserved-queue", FORBIDDEN, "Reserved queue",
        "The messages of this queue are leased by the server's own workers.",
        "Lease from the queue formulas; the others can be looked at.";
    NotFound = "not-found", NOT_FOUND, "Not found",
        "Nothing is served at this path.",
        "GET / lists every path and method.";
    FormulaUnknown = "unknown-formula", NOT_FOUND, "Unknown formula",
        "No formula with this id or seq is stored, or it was withdrawn.",
        "GET /formulas lists what is stored.";
    QueueUnknown = "unknown-queue", NOT_FOUND, "Unknown queue",
        "There is no queue with this name.",
        "GET /queues lists the queues.";
    HookUnknown = "unknown-hook", NOT_FOUND, "Unknown hook",
        "There is no hook with this id, or it was deleted.",
        "GET /hooks lists the hooks.";
    DeliveryUnknown = "unknown-delivery", NOT_FOUND, "Unknown delivery",
        "There is no delivery with this id. Of those that were taken only the latest are kept.",
        "GET /hooks/deliveries lists the deliveries.";
    SealRequestUnknown = "unknown-seal-request", NOT_FOUND, "Unknown request for a seal",
        "There is no request for a seal with this id.",
        "Use the id, or the Location, of the answer to POST /crypto/sign.";
    GroupUnknown = "unknown-group", NOT_FOUND, "Unknown group",
        "No group of this name is on this server.",
        "GET /v1/group/ lists the groups that are.";
    TransactionUnknown = "unknown-transaction", NOT_FOUND, "Unknown transaction",
        "There is no transaction with this id. Of those at an end only the latest are kept.",
        "GET /transactions lists the transactions.";
    ProblemUnknown = "unknown-problem", NOT_FOUND, "Unknown problem",
        "There is no problem with this name.",
        "GET /problems lists them.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        "The path exists, but not with this method.",
        "The header Allow lists the path's methods.";
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "Not acceptable",
        "The header Accept excludes the media type that this call answers with.",
        "Accept application/json, or leave the header out.";
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "Request timeout",
        "The head or the body of the request did not arrive in time or came too slowly.",
        "Send the request again over a better connection, in smaller pieces if it is large.";
    DuplicateFormula = "duplicate-formula", CONFLICT, "Duplicate formula",
        "A formula with the same make-up is stored already, under this or another name. \
         Nothing was stored.",
        "Use the formula that existing names, or change a material or a concentration.";
    StaleReceipt = "stale-receipt", CONFLICT, "Stale receipt",
        "None of the receipts stands for a lease that is still held. Nothing was changed.",
        "Lease again; what was not acked in time is delivered again.";
    GroupHeld = "group-held", CONFLICT, "Group held",
        "Another transaction on this group is not at an end. Nothing was changed.",
        "Wait for the transaction that existing names; if it has failed it is healed in the \
         background, or at once by POST /transactions/{id}/retry.";
    TransactionOver = "transaction-over", CONFLICT, "Transaction over",
        "The transaction has succeeded or was rolled back: there is nothing to try again.",
        "Begin another transaction on the group.";
    HookDisabled = "hook-disabled", CONFLICT, "Hook disabled",
        "The hook is called no more: its receiver answered 410, which means that he is gone.",
        "Delete the hook, and make another one for where the receiver is now.";
    HooksFull = "too-many-hooks", CONFLICT, "Too many hooks",
        "There are as many hooks as there may be. Each makes every event cost one record more.",
        "Delete hooks that nobody needs, or let one receiver pass events on to others.";
    DeliveryWaiting = "delivery-waiting", CONFLICT, "Delivery waiting",
        "The delivery has not ended yet: it is made anyhow.",
        "Wait for it; GET /hooks/deliveries says when it is attempted next.";
    StaleCall = "stale-call", CONFLICT, "Stale call",
        "The Idempotency-Key says that the call was sent before one for the same group that was \
         answered already. Nothing was changed.",
        "Nothing: what came later counts. To call anew, use a higher number.";
    GroupsFull = "too-many-groups", CONFLICT, "Too many groups",
        "There are as many groups on this server as there may be. Each is in memory.",
        "Delete groups that nobody needs.";
    LengthRequired = "length-required", LENGTH_REQUIRED, "Length required",
        "This call takes a body, and the request announces none.",
        "Send Content-Length, or Transfer-Encoding: chunked.";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "Body too large",
        "The body is larger than this call takes.",
        "Send fewer formulas at once, or stream them as application/x-ndjson.";
    TargetTooLong = "target-too-long", URI_TOO_LONG, "Request target too long",
        "The path with its query is longer than this server reads.",
        "Shorten the query.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
        "The body is not declared as a type that this call takes.",
        "Send Content-Type: application/json (or application/x-ndjson where it is taken), \
         without Content-Encoding.";
    ExpectationFailed = "expectation-failed", EXPECTATION_FAILED, "Expectation failed",
        "The header Expect asks for something else than 100-continue.",
        "Send Expect: 100-continue, or leave the header out.";
    KeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "Idempotency-Key reused",
        "The Idempotency-Key was spent on another request. Nothing was stored.",
        "Use a fresh key for a new request, and the same body when repeating an old one.";
    InvalidSeal = "invalid-seal-request", UNPROCESSABLE_ENTITY, "Invalid request for a seal",
        "The message or the webhook_url cannot be used. Nothing was stored.",
        "Correct what the list of errors names.";
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large",
        "The request has too many header lines, or too many bytes of them.",
        "Send fewer and shorter headers.";
    Internal = "internal-error", INTERNAL_SERVER_ERROR, "Internal error",
        "A fault of the server. This request alone is affected; its outcome is not known.",
        "Report it with the request id. Repeating is safe under the same Idempotency-Key.";
    DamagedRecord = "damaged-record", INTERNAL_SERVER_ERROR, "Damaged record",
        "A record on the server's disk does not match its checksum; it is not served.",
        "Tell the operator: sillage check names file and offset.";
    NotImplemented = "not-implemented", NOT_IMPLEMENTED, "Not implemented",
        "The request uses a transfer coding that this server does not implement.",
        "Send the body with Content-Length, or with Transfer-Encoding: chunked alone.";
    AuthorityFailed = "authority-failed", BAD_GATEWAY, "Authority failed",
        "The authority was called, but gave no answer of use.",
        "The detail says why. Try again later; the operator may have to look at --seal-key.";
    AuthorityLate = "authority-late", GATEWAY_TIMEOUT, "Authority late",
        "The authority was called, but did not answer in time.",
        "Try again later.";
    VersionUnsupported = "http-version-not-supported", HTTP_VERSION_NOT_SUPPORTED,
        "HTTP version not supported",
        "The server speaks HTTP/1.0 and HTTP/1.1.",
        "Use HTTP/1.1; over TLS or plain TCP without HTTP/2 prior knowledge.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Overloaded",
        "The server has as much work as it can hold. The request was refused before it took \
         effect.",
        "Try again after the time in Retry-After, with jitter.";
    ReleasesUnavailable = "releases-unavailable", SERVICE_UNAVAILABLE, "Releases unavailable",
        "This server has no partner nodes.",
        "Ask the operator to start it with --nodes.";
    TransactionsFull = "too-many-transactions", SERVICE_UNAVAILABLE, "Too many transactions",
        "As many transactions are under way, or held because they have failed, as may be.",
        "Wait as Retry-After says; GET /transactions?state=failed shows those that are held.";
    SealsUnavailable = "seals-unavailable", SERVICE_UNAVAILABLE, "Seals unavailable",
        "This server knows no authority that seals.",
        "Ask the operator to start it with --seal-url and --seal-key.";
    AuthorityBusy = "authority-busy", SERVICE_UNAVAILABLE, "Authority busy",
        "The authority may be called only so often, and all calls of the present window are used.",
        "Try again after the time in Retry-After.";
    SealsFull = "seals-full", SERVICE_UNAVAILABLE, "Too many requests for a seal",
        "As many requests for a seal wait as the server keeps; those that have failed count until \
         an operator redrives or purges them. Nothing was stored.",
        "Try again after the time in Retry-After, with jitter.";
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE, "Outcome unknown",
        "The log failed while the request was under way. After the restart it has either \
         happened completely or not at all.",
        "Repeat it under the same Idempotency-Key: it takes effect exactly once.";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "Not ready",
        "The server cannot take work at present.",
        "The detail says why. Try again later, or ask another instance.";
    DiskFull = "disk-full", INSUFFICIENT_STORAGE, "Disk full",
        "There is no room for another record. Reads and acks go on.",
        "Make room; intake resumes without a restart.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_distinct_and_plain() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.text().slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
        assert!(slugs.iter().all(|slug| slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }

    #[test]
    fn titles_need_no_escaping_in_json() {
        for kind in Kind::ALL {
            let quoted = serde_json::to_string(kind.text().title).expect("a string is JSON");
            assert_eq!(quoted, format!("\"{}\"", kind.text().title));
        }
    }
}
