//! Asking before something that cannot be undone: the person types what is meant, so that Enter alone does nothing.

use crate::{app::App, failure::Failure};
use std::{
    io,
    io::{BufRead, Write},
};

/// What is about to happen, and what confirms it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What would happen: `deleting release 1.2.3`.
    pub what: &'a str,
    /// What goes with it, for the person to weigh.
    pub consequence: &'a str,
    /// What has to be typed.
    pub expected: &'a str,
    /// What to add to the command line where nobody can be asked.
    pub flag: &'a str,
}

/// Asks at the terminal, or fails where there is none.
pub fn ask(question: &Question<'_>, app: &App) -> Result<(), Failure> {
    let (stdin, stderr) = (app.environment.stdin_is_terminal, app.environment.stderr_is_terminal);
    if !stdin || !stderr {
        return Err(Failure::Unconfirmed { what: question.what.to_owned(), flag: question.flag.to_owned() });
    }
    put(question, &mut io::stdin().lock(), &mut io::stderr())
}

/// Puts the question and reads one line.
fn put(question: &Question<'_>, input: &mut impl BufRead, talk: &mut impl Write) -> Result<(), Failure> {
    let Question { what, consequence, expected, .. } = question;
    write!(talk, "{what} cannot be undone. {consequence}\ntype {expected:?} to go on: ")
        .and_then(|()| talk.flush())
        .map_err(Failure::Ask)?;
    let mut line = String::new();
    input.read_line(&mut line).map_err(Failure::Ask)?;
    if line.trim() == *expected {
        return Ok(());
    }
    Err(Failure::Declined { expected: (*expected).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(typed: &str) -> (Result<(), Failure>, String) {
        let question = Question {
            what: "deleting release 1.2.3",
            consequence: "Its artifacts leave every sled.",
            expected: "1.2.3",
            flag: "--yes",
        };
        let mut asked = Vec::new();
        let result = put(&question, &mut typed.as_bytes(), &mut asked);
        (result, String::from_utf8(asked).unwrap())
    }

    #[test]
    fn only_the_expected_words_confirm() {
        let (result, asked) = answer("1.2.3\n");
        assert!(result.is_ok());
        assert_eq!(
            asked,
            "deleting release 1.2.3 cannot be undone. Its artifacts leave every sled.\ntype \"1.2.3\" to go on: "
        );
        for other in ["", "\n", "y\n", "yes\n", "1.2.30\n"] {
            assert!(matches!(answer(other).0, Err(Failure::Declined { .. })), "{other:?} confirmed");
        }
    }
}
