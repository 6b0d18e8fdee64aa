//! Where the coordinator is, and the proxy on the way.

use crate::error::NetError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Port of a coordinator when none is given.
pub const PORT: u16 = 443;

/// Host and port of the coordinator: `name`, `name:port`, `192.0.2.7:443`, `[2001:db8::7]:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorAddress {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
}

impl CoordinatorAddress {
    /// Name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

impl FromStr for CoordinatorAddress {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::Address { text: text.to_owned() };
        let (host, port) = host_and_port(text).ok_or_else(wrong)?;
        let server_name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        Ok(Self { host, port: port.unwrap_or(PORT), server_name })
    }
}

impl fmt::Display for CoordinatorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?.parse().ok()?) };
        return Some((host.to_owned(), port));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some((text.to_owned(), None));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((text.to_owned(), None)),
    }
}

/// A proxy that carries TCP by `CONNECT` (RFC 9110, section 9.3.6).
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<Zeroizing<String>>,
}

impl Proxy {
    /// The proxy that the environment sets for `address`: `HTTPS_PROXY`, unless `NO_PROXY` lists the host.
    pub fn from_environment(address: &CoordinatorAddress) -> Result<Option<Self>, NetError> {
        let variable = |name: &str| {
            let upper = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
            upper.ok().filter(|value| !value.is_empty())
        };
        match variable("HTTPS_PROXY") {
            Some(proxy) if !excepted(variable("NO_PROXY").as_deref(), address.host()) => {
                proxy.parse().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What asks the proxy for a connection.
    pub(crate) fn request(&self, to: &CoordinatorAddress) -> Zeroizing<String> {
        let mut request = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request
    }
}

/// Whether a list of hosts and domains, with commas between them, has `host` in it.
fn excepted(list: Option<&str>, host: &str) -> bool {
    let host = host.to_lowercase();
    list.unwrap_or_default().split(',').map(|item| item.trim().to_lowercase()).any(|item| {
        let domain = item.trim_start_matches("*.").trim_start_matches('.');
        item == "*" || !domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}")))
    })
}

impl FromStr for Proxy {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            // The connection to the proxy itself is not encrypted; what it carries is.
            Some(_) => return Err(NetError::Proxy),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) =
            host_and_port(place).filter(|(host, _)| !host.is_empty()).ok_or(NetError::Proxy)?;
        ServerName::try_from(host.as_str()).map_err(|_| NetError::Proxy)?;
        let authorization = match user {
            Some(user) => {
                Some(Zeroizing::new(STANDARD.encode(percent_decoded(user).ok_or(NetError::Proxy)?)))
            }
            None => None,
        };
        Ok(Self { host, port: port.unwrap_or(8080), authorization })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Bytes with `%` and two hexadecimal digits for those that a URL cannot hold.
fn percent_decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| text.parse::<CoordinatorAddress>().map(|it| it.to_string()).ok();
        assert_eq!(read("fed.example").as_deref(), Some("fed.example:443"));
        assert_eq!(read("fed.example:8443").as_deref(), Some("fed.example:8443"));
        assert_eq!(read("192.0.2.7:1").as_deref(), Some("192.0.2.7:1"));
        assert_eq!(read("2001:db8::7").as_deref(), Some("[2001:db8::7]:443"));
        assert_eq!(read("[2001:db8::7]:9").as_deref(), Some("[2001:db8::7]:9"));
        for wrong in ["", ":1", "a:b", "a:99999", "https://a", "a b", "[::1", "[::1]9"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn proxies_are_read_and_their_password_is_not_shown() {
        let proxy: Proxy = "http://user:p%40ss@proxy.example:3128/".parse().unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "proxy.example:3128 Proxy(proxy.example:3128)");
        let request = proxy.request(&"fed.example".parse().unwrap());
        let basic = STANDARD.encode("user:p@ss");
        assert_eq!(
            request.as_str(),
            format!(
                "CONNECT fed.example:443 HTTP/1.1\r\nHost: fed.example:443\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
            )
        );
        assert_eq!("10.0.0.1".parse::<Proxy>().unwrap().port(), 8080);
        for wrong in ["https://proxy:1", "socks5://proxy:1", "", "http://:1", "http://a b:1", "u%zz@p:1"] {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_without_proxy_are_found() {
        let list = Some("localhost, .hospital.example,*.lan,10.0.0.1");
        for host in ["localhost", "hospital.example", "fed.Hospital.example", "a.lan", "10.0.0.1"] {
            assert!(excepted(list, host), "{host}");
        }
        for host in ["nothospital.example", "example", "10.0.0.11"] {
            assert!(!excepted(list, host), "{host}");
        }
        assert!(excepted(Some("*"), "any.example") && !excepted(None, "any.example"));
    }
}
