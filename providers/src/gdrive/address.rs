//! `gdrive://FOLDER-ID?shared-drive=ID&endpoint=URL`: where a repository on Google Drive lies. Credentials are
//! never part of it.

use crate::Result;
use crate::address::Address;
use crate::http::check_endpoint;

/// A folder on Google Drive, as an URL spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveAddress {
    /// The id of the folder, as in the address bar of the browser: `drive.google.com/drive/folders/ID`.
    pub folder: String,
    /// The shared drive in which the folder is expected. Not needed: the folder itself says where it lies.
    pub shared_drive: Option<String>,
    /// The root URL in place of Google's.
    pub endpoint: Option<String>,
}

impl DriveAddress {
    /// Reads the URL.
    ///
    /// # Errors
    /// `Misconfigured` for another form, an id that cannot be one, an option nobody knows (the known ones are
    /// named), and an endpoint that would send tokens over a network unprotected.
    pub fn parse(text: &str) -> Result<Self> {
        let mut address = Address::parse(text, "gdrive")?;
        let shared_drive = address.take("shared-drive");
        let endpoint = address.take("endpoint");
        address.finish()?;
        if !address.path.is_empty() {
            return Err(address.refuse("only the id of the folder belongs between // and ?, no path"));
        }
        let folder = std::mem::take(&mut address.name);
        for id in [Some(&folder), shared_drive.as_ref()].into_iter().flatten() {
            if !super::file::is_id(id) {
                return Err(address.refuse(format_args!(
                    "{id:?} is no id: open the folder in the browser and take what follows /folders/ in the address bar"
                )));
            }
        }
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint, false)?;
        }
        Ok(Self { folder, shared_drive, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::DriveAddress;

    #[test]
    fn the_whole_address_is_read() {
        let plain = DriveAddress::parse("gdrive://1AbC_d-9").unwrap();
        assert_eq!(plain, DriveAddress { folder: "1AbC_d-9".to_owned(), shared_drive: None, endpoint: None });
        let full = "gdrive://1AbC?shared-drive=0AX&endpoint=http://127.0.0.1:8080/";
        let full = DriveAddress::parse(full).unwrap();
        assert_eq!(full.shared_drive.as_deref(), Some("0AX"));
        assert_eq!(full.endpoint.as_deref(), Some("http://127.0.0.1:8080/"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("gdrive://", "is no id"),
            ("gdrive://a b", "is no id"),
            ("gdrive://My Drive/Backups", "no path"),
            ("gdrive://a/b", "no path"),
            ("gdrive://a?shared-drive=x/y", "is no id"),
            ("gdrive://a?folder=x", "known are shared-drive, endpoint"),
            ("gdrive://a?endpoint=http://drive.example.org", "https"),
            ("s3://a", "gdrive://"),
        ] {
            let error = DriveAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
