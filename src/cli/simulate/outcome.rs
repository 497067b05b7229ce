//! What became of a call in the end.

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with this status.
    Status(u16),
    /// Its connection was closed, as told.
    Severed,
    /// The client left before it was answered.
    Left,
}

impl Outcome {
    /// Its key in `by_status`, and what is said of it.
    pub(crate) fn name(self) -> String {
        match self {
            Outcome::Status(status) => status.to_string(),
            Outcome::Severed => "severed".to_owned(),
            Outcome::Left => "left".to_owned(),
        }
    }
}
