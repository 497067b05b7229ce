//! What an answer to a call means. Pure.

use crate::engine::hooks::DeliveryOutcome;
use crate::ids::Lsn;
use crate::limits::REASON_BYTES_MAX;
use crate::outbound::fault::CallFault;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// A status, or why there is none.
    pub answer: Result<u16, CallFault>,
    /// What `Retry-After` asks for.
    pub retry_after_ms: Option<u64>,
    /// How long it took.
    pub took_ms: u64,
}

/// What the call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The hook; `None` for the answer to a single request.
    pub hook: Option<Lsn>,
    /// Whether another attempt is made.
    pub tries: Tries,
    /// The wait before it, unless the receiver asks for more.
    pub delay_ms: u64,
}

/// Whether a call that fails is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    /// Until its attempts are used up.
    Many,
    /// Never: somebody waits to see what becomes of this one.
    Once,
}

/// What is known of a destination by a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Well,
    /// There was no answer.
    Unwell,
    /// It asks to be left alone for so many milliseconds.
    Busy(u64),
}

/// What becomes of the delivery of which no formula is told, and how the destination is.
#[must_use]
pub fn judge(called: &Called, came: &Came) -> (DeliveryOutcome, Health) {
    let fail = |reason: String| {
        let delay_ms = called.delay_ms.max(came.retry_after_ms.unwrap_or(0));
        match called.tries {
            Tries::Many => DeliveryOutcome::Failed { delay_ms, reason: cut(&reason) },
            Tries::Once => DeliveryOutcome::Condemned { reason: cut(&reason) },
        }
    };
    let health = match (came.answer, came.retry_after_ms) {
        (Err(_), _) => Health::Unwell,
        (Ok(429 | 503), Some(ms)) => Health::Busy(ms),
        (Ok(429), None) => Health::Busy(called.delay_ms),
        (Ok(_), _) => Health::Well,
    };
    let outcome = match came.answer {
        Ok(status @ 200..=299) => {
            DeliveryOutcome::Delivered { status, took_ms: came.took_ms, about: None }
        }
        Ok(410) => DeliveryOutcome::Gone {
            hook: called.hook,
            reason: "answered 410: the receiver is gone".into(),
        },
        Ok(status @ (408 | 425 | 429)) => fail(format!("answered {status}")),
        Ok(status @ 400..=499) => {
            DeliveryOutcome::Condemned { reason: cut(&format!("answered {status}")) }
        }
        Ok(status @ 300..=399) => {
            fail(format!("answered {status}, and redirects are not followed"))
        }
        Ok(status) => fail(format!("answered {status}")),
        Err(fault) => fail(fault.to_string()),
    };
    (outcome, health)
}

/// A reason that fits into a record.
#[must_use]
pub fn cut(reason: &str) -> Box<str> {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::fault::Phase;

    const CALLED: Called = Called { hook: Some(Lsn(7)), tries: Tries::Many, delay_ms: 2000 };

    fn outcome(answer: Result<u16, CallFault>, retry_after_ms: Option<u64>) -> DeliveryOutcome {
        judge(&CALLED, &Came { answer, retry_after_ms, took_ms: 5 }).0
    }

    fn delay_ms(outcome: &DeliveryOutcome) -> Option<u64> {
        match outcome {
            DeliveryOutcome::Failed { delay_ms, .. } => Some(*delay_ms),
            _ => None,
        }
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in 100..=999 {
            let outcome = outcome(Ok(status), None);
            match status {
                200..=299 => assert!(
                    matches!(outcome, DeliveryOutcome::Delivered { status: s, .. } if s == status)
                ),
                410 => assert!(matches!(outcome, DeliveryOutcome::Gone { .. })),
                408 | 425 | 429 => assert_eq!(delay_ms(&outcome), Some(2000), "{status}"),
                400..=499 => assert!(matches!(outcome, DeliveryOutcome::Condemned { .. })),
                _ => assert_eq!(delay_ms(&outcome), Some(2000), "{status}"),
            }
        }
    }

    #[test]
    fn receiver_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
        for status in [302, 408, 425, 429, 500, 503] {
            assert_eq!(delay_ms(&outcome(Ok(status), Some(60_000))), Some(60_000), "{status}");
            assert_eq!(delay_ms(&outcome(Ok(status), Some(1))), Some(2000), "{status}");
        }
    }

    #[test]
    fn only_what_has_no_answer_or_asks_for_peace_makes_a_destination_unwell() {
        let health =
            |answer, retry_after_ms| judge(&CALLED, &Came { answer, retry_after_ms, took_ms: 5 }).1;
        assert_eq!(health(Err(CallFault::TimedOut { phase: Phase::Head }), None), Health::Unwell);
        assert_eq!(health(Ok(429), Some(9)), Health::Busy(9));
        assert_eq!(health(Ok(429), None), Health::Busy(2000));
        assert_eq!(health(Ok(503), Some(9)), Health::Busy(9));
        for status in [200, 302, 404, 410, 500, 503] {
            assert_eq!(health(Ok(status), None), Health::Well, "one message may be to blame");
        }
    }

    #[test]
    fn a_call_that_somebody_waits_for_is_not_tried_again() {
        let once = Called { tries: Tries::Once, ..CALLED };
        let came = Came { answer: Ok(503), retry_after_ms: None, took_ms: 5 };
        assert!(matches!(judge(&once, &came).0, DeliveryOutcome::Condemned { .. }));
    }

    #[test]
    fn reason_is_cut_between_characters() {
        let long = "ä".repeat(REASON_BYTES_MAX);
        assert_eq!(cut(&long).len(), REASON_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), REASON_BYTES_MAX - 1);
    }
}
