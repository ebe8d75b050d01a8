//! What a command has to say, on standard output.
//! Owns: nothing. Called by: the commands that print and end. Never: minds that whoever reads has read enough.
use std::io::{self, Write};

/// Prints. A reader that has left (`outcry check ... | head`) is no error, and nobody else is there to be told of one.
pub fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
