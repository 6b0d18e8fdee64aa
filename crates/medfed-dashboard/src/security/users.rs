//! Who may use the dashboard: a file of names, roles and argon2id hashes (RFC 9106), mode 0600.

use super::private_file::{self, PrivateFileError};
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use rand::TryRng as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// Shortest password in characters.
const SHORTEST: usize = 12;
/// Longest password in bytes: hashing longer ones would cost the server more than the client.
const LONGEST: usize = 1024;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads every page.
    Viewer,
    /// Also starts, pauses and stops training, and edits the configuration.
    Operator,
}

impl Role {
    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// A user's name: 1 to 64 letters, digits, and `.`, `_`, `-`, `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserName {
    type Error = UsersError;

    fn try_from(name: String) -> Result<Self, UsersError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
            Ok(Self(name))
        } else {
            Err(UsersError::Name)
        }
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

/// Why users cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// A name with other characters, an empty or a long one.
    #[error("a user's name has 1 to 64 letters, digits, '.', '_', '-' or '@'")]
    Name,
    /// The password is too short or too long.
    #[error(
        "a password has at least {SHORTEST} characters and at most {LONGEST} bytes; this one has {characters} characters"
    )]
    Password {
        /// Characters found.
        characters: usize,
    },
    /// There is no such user.
    #[error("there is no user {name:?}", name = name.as_str())]
    Unknown {
        /// The name.
        name: UserName,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not a list of users.
    #[error("{} is not a file of users", path.display())]
    Malformed {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// The hash cannot be computed.
    #[error("the password cannot be hashed: {source}")]
    Hash {
        /// Why.
        source: argon2::password_hash::Error,
    },
}

/// The users by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Users(BTreeMap<UserName, User>);

/// A user: role and hash, never printed together with a name.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    role: Role,
    /// argon2id with its parameters and salt, in the PHC string format.
    password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").field("role", &self.role).field("password", &"<redacted>").finish()
    }
}

impl Users {
    /// Reads the file; no file is no users.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let Some(bytes) = private_file::read(path)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|source| UsersError::Malformed { path: path.to_owned(), source })
    }

    /// Changes the users of a file, after whoever else is changing them at this moment.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        let _lock = private_file::lock(path)?;
        let mut users = Self::read(path)?;
        let changed = change(&mut users)?;
        users.write(path)?;
        Ok(changed)
    }

    /// Replaces the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), UsersError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|source| UsersError::Malformed { path: path.to_owned(), source })?;
        bytes.push(b'\n');
        Ok(private_file::write(path, &bytes)?)
    }

    /// Adds a user, or gives one another password and role. Returns whether there was one of this name.
    pub fn add(&mut self, name: UserName, role: Role, password: &str) -> Result<bool, UsersError> {
        let characters = password.chars().count();
        if characters < SHORTEST || password.len() > LONGEST {
            return Err(UsersError::Password { characters });
        }
        Ok(self.0.insert(name, User { role, password: hash(password)? }).is_some())
    }

    /// Removes a user. Sessions of this name end with the next request.
    pub fn remove(&mut self, name: &UserName) -> Result<(), UsersError> {
        self.0.remove(name).map(drop).ok_or_else(|| UsersError::Unknown { name: name.clone() })
    }

    /// Names and roles in the order of names.
    pub fn list(&self) -> impl Iterator<Item = (&UserName, Role)> {
        self.0.iter().map(|(name, user)| (name, user.role))
    }

    /// Whether nobody could log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The role, while the hash is still the one of the login.
    pub(super) fn role(&self, name: &UserName, password_hash: &str) -> Option<Role> {
        self.0.get(name).filter(|user| user.password == password_hash).map(|user| user.role)
    }

    /// The hash to compare with. An unknown name has one too: the answer takes as long and fails.
    pub(super) fn hash_of(&self, name: &UserName) -> Option<String> {
        self.0.get(name).map(|user| user.password.clone())
    }
}

/// Whether the password fits. Without a hash the same work is done for nothing, so that the time does not
/// tell which names exist.
pub(super) fn fits(password: &str, hash: Option<&str>) -> bool {
    static NOBODY: LazyLock<String> =
        LazyLock::new(|| hash_with("nobody has this password", &[0; 16]).unwrap_or_default());
    let short = if password.len() > LONGEST { "" } else { password };
    let fits = Argon2::default().verify_password(short.as_bytes(), hash.unwrap_or(&NOBODY)).is_ok();
    fits && hash.is_some()
}

fn hash(password: &str) -> Result<String, UsersError> {
    let mut salt = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut salt).map_err(|_| UsersError::Random)?;
    hash_with(password, &salt)
}

fn hash_with(password: &str, salt: &[u8]) -> Result<String, UsersError> {
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string()).map_err(|source| UsersError::Hash { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UserName {
        UserName::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn passwords_are_kept_as_salted_hashes_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inside/users.json");
        let mut users = Users::read(&path).unwrap();
        assert!(users.is_empty());
        assert!(!users.add(name("ada"), Role::Operator, "correct horse battery").unwrap());
        assert!(!users.add(name("eve"), Role::Viewer, "correct horse battery").unwrap());
        assert_ne!(users.hash_of(&name("ada")), users.hash_of(&name("eve")));
        users.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("$argon2id$v=19$m=19456,t=2,p=1$") && !text.contains("horse"));
        assert_eq!(Users::read(&path).unwrap(), users);
        assert!(!format!("{users:?}").contains("argon2id"));

        let hash = users.hash_of(&name("ada")).unwrap();
        assert!(fits("correct horse battery", Some(&hash)));
        assert!(!fits("correct horse batterz", Some(&hash)));
        assert!(!fits("nobody has this password", None));
        assert_eq!(users.role(&name("ada"), &hash), Some(Role::Operator));
        users.add(name("ada"), Role::Operator, "another long password").unwrap();
        assert_eq!(users.role(&name("ada"), &hash), None, "a new password ends old sessions");
        users.remove(&name("eve")).unwrap();
        assert!(matches!(users.remove(&name("eve")), Err(UsersError::Unknown { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        Users::default().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Users::read(&path),
            Err(UsersError::File(PrivateFileError::Open { mode: 0o640, .. }))
        ));
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.json");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let name = name(&format!("user{number}"));
                    let user = User { role: Role::Viewer, password: String::new() };
                    Users::change(path, |users| Ok(users.0.insert(name, user))).unwrap();
                });
            }
        });
        assert_eq!(Users::read(&path).unwrap().0.len(), 8);
    }

    #[test]
    fn bad_names_and_passwords_are_refused() {
        for bad in ["", "a b", "é", "a\nb", "../x", &"a".repeat(65)] {
            assert!(UserName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let mut users = Users::default();
        users.add(name("max"), Role::Viewer, &"x".repeat(1024)).unwrap();
        assert!(fits(&"x".repeat(1024), users.hash_of(&name("max")).as_deref()));
        for bad in ["short", &"x".repeat(1025)] {
            assert!(matches!(users.add(name("ada"), Role::Viewer, bad), Err(UsersError::Password { .. })));
        }
    }
}
