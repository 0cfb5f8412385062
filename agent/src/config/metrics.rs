//! `[metrics]` of the configuration file: where monitoring finds the figures. Nothing is told unless a place is named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Error, Result};

/// What node_exporter's textfile collector reads.
const TEXTFILE_EXTENSION: &str = "prom";

/// `[metrics]` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsFile {
    /// Address and port at which the daemon serves `/metrics`, `/livez`, `/readyz` and `/healthz`, as 127.0.0.1:9642. Off unless set.
    pub listen: Option<String>,
    /// Allow `listen` to be an address that other machines reach. Nobody is asked who they are.
    pub allow_remote: bool,
    /// A file that each run writes the figures to, for node_exporter's textfile collector. Its name ends in .prom.
    pub textfile: Option<PathBuf>,
}

/// Where monitoring finds the figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where the daemon listens, if it is to.
    pub listen: Option<SocketAddr>,
    /// The file that is written after each run, if one is to be.
    pub textfile: Option<PathBuf>,
}

impl MetricsFile {
    /// Checks what was written; `resolve` makes paths absolute.
    ///
    /// # Errors
    /// `Usage` for what is no address, one that others reach without `allow_remote`, or a file that nobody would read.
    pub fn check(self, resolve: impl Fn(&Path) -> PathBuf) -> Result<Metrics> {
        let listen = self.listen.as_deref().map(|text| address(text, self.allow_remote)).transpose()?;
        let textfile = self.textfile.as_deref().map(resolve);
        if let Some(path) = &textfile
            && path.extension().is_none_or(|extension| extension != TEXTFILE_EXTENSION)
        {
            return Err(Error::usage(format_args!(
                "[metrics] textfile {}: node_exporter reads only files whose name ends in .prom",
                path.display()
            ))
            .with_hint("Name it lifeboat.prom, in the directory of --collector.textfile.directory."));
        }
        Ok(Metrics { listen, textfile })
    }
}

fn address(text: &str, allow_remote: bool) -> Result<SocketAddr> {
    let address: SocketAddr = text.trim().parse().map_err(|_| {
        Error::usage(format_args!("[metrics] listen {text:?} is no address with a port"))
            .with_hint("Write it as \"127.0.0.1:9642\", or \"[::1]:9642\".")
    })?;
    if !address.ip().is_loopback() && !allow_remote {
        return Err(Error::usage(format_args!(
            "[metrics] listen {address}: other machines could read what is backed up where, and nobody is asked who they are"
        ))
        .with_hint("Listen on 127.0.0.1, or write `allow_remote = true` if a firewall lets only your Prometheus in."));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Metrics> {
        let file: MetricsFile = toml::from_str(text).unwrap();
        file.check(|path| Path::new("/etc/lifeboat").join(path))
    }

    #[test]
    fn nothing_is_told_unless_a_place_is_named() {
        assert_eq!(check("").unwrap(), Metrics::default());
    }

    #[test]
    fn places() {
        let metrics = check("listen = \"127.0.0.1:9642\"\ntextfile = \"/var/lib/a/lifeboat.prom\"").unwrap();
        assert_eq!(metrics.listen, Some(([127, 0, 0, 1], 9642).into()));
        assert_eq!(metrics.textfile.as_deref(), Some(Path::new("/var/lib/a/lifeboat.prom")));
        assert_eq!(check("listen = \"[::1]:0\"").unwrap().listen.unwrap().port(), 0);
        let relative = check("textfile = \"own.prom\"").unwrap().textfile;
        assert_eq!(relative.as_deref(), Some(Path::new("/etc/lifeboat/own.prom")));
    }

    #[test]
    fn others_are_let_in_only_when_it_is_said_so() {
        for open in ["0.0.0.0:9642", "[::]:9642", "192.0.2.7:9642"] {
            let error = check(&format!("listen = \"{open}\"")).unwrap_err();
            assert!(error.hint().unwrap().contains("allow_remote = true"), "{open}: {error}");
            check(&format!("listen = \"{open}\"\nallow_remote = true")).unwrap();
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in ["9642", "localhost:9642", "127.0.0.1", "127.0.0.1:99999", ""] {
            let error = check(&format!("listen = \"{wrong}\"")).unwrap_err();
            assert!(error.hint().unwrap().contains("127.0.0.1:9642"), "{wrong}: {error}");
        }
        assert!(check("textfile = \"/var/lib/a/lifeboat.txt\"").unwrap_err().to_string().contains(".prom"));
    }
}
