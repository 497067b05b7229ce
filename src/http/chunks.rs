//! Finds the end of a chunked body without decoding it. Pure.
//!
//! Hyper decodes the body; this only tells the wire where the next head begins. It is as strict
//! as hyper. When it finds a fault it says so, and the wire stops looking for heads: hyper will
//! find the same fault and close the connection.
//!
//! ```text
//! chunk  = size [; extension] CR LF data CR LF        (size in hexadecimal)
//! body   = chunk* 0 [; extension] CR LF trailer-line* CR LF
//! ```

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// Before the first digit of a size.
    Begin,
    /// In a size that has this value so far.
    Size(u64),
    /// After the size, before its line's CR.
    Extension(u64),
    /// After the CR of a size's line.
    SizeLf(u64),
    /// In data of which so many bytes are left.
    Data(u64),
    /// After data, before its CR.
    DataCr,
    /// After the CR of data.
    DataLf,
    /// At the start of a line after the last chunk.
    TrailerBegin,
    /// In a trailer line.
    Trailer,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the last, empty line.
    EndLf,
}

/// What [`Chunks::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The body goes on after the input.
    More,
    /// The body ends after so many bytes of the input.
    End(usize),
    /// It is no chunked body.
    Fault,
}

impl Chunks {
    /// Looks at the next bytes of the body.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Found {
        let mut at = 0;
        while at < input.len() {
            if let Chunks::Data(left) = self {
                let here = (input.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                at += here;
                *left -= here as u64;
                if *left == 0 {
                    *self = Chunks::DataCr;
                }
                continue;
            }
            if *self == Chunks::EndLf {
                return if input[at] == b'\n' { Found::End(at + 1) } else { Found::Fault };
            }
            match self.after(input[at]) {
                Some(next) => *self = next,
                None => return Found::Fault,
            }
            at += 1;
        }
        Found::More
    }

    /// The place after one byte that is neither data nor the last.
    fn after(self, byte: u8) -> Option<Chunks> {
        Some(match (self, byte) {
            (Chunks::Begin, _) => Chunks::Size(hex(byte)?),
            (Chunks::Size(size) | Chunks::Extension(size), b'\r') => Chunks::SizeLf(size),
            (Chunks::Size(size), b' ' | b'\t' | b';') => Chunks::Extension(size),
            (Chunks::Size(size), _) => Chunks::Size(size.checked_mul(16)?.checked_add(hex(byte)?)?),
            (Chunks::Extension(_), b'\n') => return None,
            (Chunks::Extension(size), _) => Chunks::Extension(size),
            (Chunks::SizeLf(0), b'\n') => Chunks::TrailerBegin,
            (Chunks::SizeLf(size), b'\n') => Chunks::Data(size),
            (Chunks::DataCr, b'\r') => Chunks::DataLf,
            (Chunks::DataLf, b'\n') => Chunks::Begin,
            (Chunks::TrailerBegin, b'\r') => Chunks::EndLf,
            (Chunks::Trailer, b'\r') => Chunks::TrailerLf,
            (Chunks::TrailerBegin | Chunks::Trailer, _) => Chunks::Trailer,
            (Chunks::TrailerLf, b'\n') => Chunks::TrailerBegin,
            _ => return None,
        })
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_wherever_the_input_is_cut() {
        let body = b"5\r\nhello\r\na;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\nGET /";
        let end = body.len() - 5;
        for cut in 0..end {
            let mut chunks = Chunks::Begin;
            assert_eq!(chunks.advance(&body[..cut]), Found::More, "cut at {cut}");
            assert_eq!(chunks.advance(&body[cut..]), Found::End(end - cut), "cut at {cut}");
        }
    }

    #[test]
    fn faults_are_found() {
        for body in
            ["x", "5\n", "5\r\nhelloX", "5\r\nhello\rX", "11111111111111111\r\n", "0\r\n\rX"]
        {
            assert_eq!(Chunks::Begin.advance(body.as_bytes()), Found::Fault, "{body:?}");
        }
    }
}
