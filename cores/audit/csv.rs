//! Tables for other programs: RFC 4180, with a line of headings.
//! Owns: nothing. Called by: the commands of `outcry audit` that have `--csv`. Never: lets a text that a DSP chose become a
//! formula of whoever opens the file.

/// What stands in a field.
pub(super) enum Field<'a> {
    /// A number, a moment, an id, a word of ours.
    Word(String),
    /// A text from outside; control characters as in tables.
    Text(&'a [u8]),
}

/// A line, its end included.
pub(super) fn line(fields: &[Field<'_>]) -> String {
    let fields: Vec<String> = fields.iter().map(field).collect();
    fields.join(",") + "\r\n"
}

/// The line of headings.
pub(super) fn heading(names: &[&str]) -> String {
    names.join(",") + "\r\n"
}

fn field(field: &Field<'_>) -> String {
    let text = match field {
        Field::Word(word) => word.clone(),
        Field::Text(b"") => String::new(),
        Field::Text(text) => {
            let text = outcry::record::show::columns::plain(text);
            // Spreadsheets calculate what begins so, unless it is quoted like this.
            if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
        }
    };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let texts: [&[u8]; 6] = [b"plain", b"", b"a,b", b"say \"x\"", b"=HYPERLINK(1)", b"-"];
        let mut fields: Vec<Field<'_>> = texts.into_iter().map(Field::Text).collect();
        fields.push(Field::Word("-0.01".to_owned()));
        let want = "plain,,\"a,b\",\"say \"\"x\"\"\",'=HYPERLINK(1),'-,-0.01\r\n";
        assert_eq!(line(&fields), want);
        assert_eq!(line(&[Field::Text(b"a\r\nb\x1b")]), "a\\u{d}\\u{a}b\\u{1b}\r\n");
        assert_eq!(heading(&["a", "b"]), "a,b\r\n");
    }
}
