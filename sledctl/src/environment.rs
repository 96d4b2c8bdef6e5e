//! What the process finds around itself: environment variables, terminals, the width of the screen.
//!
//! Read once at the start, as plain data, so that every decision made of it can be tested.

use crate::{
    cli::{ColorWhen, Format, GlobalOptions},
    render::Look,
};
use camino::Utf8PathBuf;
use std::{env, io, io::IsTerminal, os::fd::AsFd};

/// Narrower terminals are drawn for as if they had this width: a table needs some room to say anything.
const WIDTH_MIN: usize = 40;

/// The surroundings of the process.
#[derive(Clone, Default)]
pub struct Environment {
    /// `SLEDCTL_URL`; an empty variable counts as unset, here and below.
    pub url: Option<String>,
    /// `SLEDCTL_TOKEN`.
    pub token: Option<String>,
    /// `SLEDCTL_TOKEN_FILE`.
    pub token_file: Option<Utf8PathBuf>,
    /// `NO_COLOR`, as <https://no-color.org> has it, or a terminal that says it can do nothing.
    pub no_color: bool,
    /// The folder of people's configuration: `XDG_CONFIG_HOME`, or `.config` in the home folder.
    pub config_home: Option<Utf8PathBuf>,
    /// Whether somebody sits at standard input.
    pub stdin_is_terminal: bool,
    /// Whether somebody sits at standard output.
    pub stdout_is_terminal: bool,
    /// Whether somebody sits at standard error.
    pub stderr_is_terminal: bool,
    /// Columns of the terminal at standard output.
    pub width: Option<usize>,
    /// Columns of the terminal at standard error.
    pub talk_width: Option<usize>,
}

impl Environment {
    /// Reads the surroundings of this process.
    #[must_use]
    pub fn of_this_process() -> Environment {
        Environment {
            url: variable("SLEDCTL_URL"),
            token: variable("SLEDCTL_TOKEN"),
            token_file: variable("SLEDCTL_TOKEN_FILE").map(Utf8PathBuf::from),
            no_color: variable("NO_COLOR").is_some() || variable("TERM").as_deref() == Some("dumb"),
            config_home: config_home(variable("XDG_CONFIG_HOME"), variable("HOME")),
            stdin_is_terminal: io::stdin().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            width: columns(io::stdout()),
            talk_width: columns(io::stderr()),
        }
    }

    /// How standard output is to look.
    ///
    /// Into a pipe nothing is shortened: whoever reads there wants all of it and has no width.
    #[must_use]
    pub fn look(&self, global: &GlobalOptions) -> Look {
        let wide = global.output == Format::Wide;
        Look {
            width: if wide { None } else { self.width.map(|width| width.max(WIDTH_MIN)) },
            color: self.color(global.color, self.stdout_is_terminal),
            headers: !global.no_headers,
            wide,
        }
    }

    /// How standard error is to look.
    #[must_use]
    pub fn look_of_talk(&self, global: &GlobalOptions) -> Look {
        Look {
            width: self.talk_width.map(|width| width.max(WIDTH_MIN)),
            color: self.color(global.color, self.stderr_is_terminal),
            headers: true,
            wide: false,
        }
    }

    fn color(&self, when: ColorWhen, terminal: bool) -> bool {
        match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !self.no_color,
        }
    }
}

/// Columns of a terminal; none if it is no terminal, or does not say.
fn columns(terminal: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    let value = env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// XDG asks to ignore a relative `XDG_CONFIG_HOME`.
fn config_home(xdg: Option<String>, home: Option<String>) -> Option<Utf8PathBuf> {
    xdg.map(Utf8PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| Utf8PathBuf::from(home).join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(color: ColorWhen, output: Format) -> GlobalOptions {
        GlobalOptions { url: None, token_file: None, context: None, output, no_headers: false, color }
    }

    #[test]
    fn no_color_silences_auto_but_not_always() {
        let plain = Environment { stdout_is_terminal: true, no_color: true, ..Environment::default() };
        assert!(!plain.look(&global(ColorWhen::Auto, Format::Table)).color);
        assert!(plain.look(&global(ColorWhen::Always, Format::Table)).color);
        let terminal = Environment { stdout_is_terminal: true, ..Environment::default() };
        assert!(terminal.look(&global(ColorWhen::Auto, Format::Table)).color);
        assert!(!terminal.look(&global(ColorWhen::Never, Format::Table)).color);
        assert!(!Environment::default().look(&global(ColorWhen::Auto, Format::Table)).color);
    }

    #[test]
    fn wide_output_and_pipes_have_no_width() {
        let terminal = Environment { width: Some(100), ..Environment::default() };
        assert_eq!(terminal.look(&global(ColorWhen::Auto, Format::Table)).width, Some(100));
        assert_eq!(terminal.look(&global(ColorWhen::Auto, Format::Wide)).width, None);
        assert_eq!(Environment::default().look(&global(ColorWhen::Auto, Format::Table)).width, None);
    }

    #[test]
    fn relative_xdg_folder_is_ignored() {
        let found = config_home(Some("conf".into()), Some("/home/ana".into()));
        assert_eq!(found.unwrap(), "/home/ana/.config");
        assert_eq!(config_home(Some("/x".into()), None).unwrap(), "/x");
        assert_eq!(config_home(None, None), None);
    }
}
