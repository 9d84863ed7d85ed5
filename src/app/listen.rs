//! Where the server listens, and what holds for every connection from there.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use rustix::net::sockopt::set_tcp_user_timeout;

/// How long a client may leave an answer unread, a feed too: then the kernel ends the connection, with what of the
/// answer was still waiting for it.
const MAX_UNREAD_ANSWER: Duration = Duration::from_secs(30);

/// Listens. Connections inherit what is set here (Linux).
///
/// # Errors
/// What the system says.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let millis = u32::try_from(MAX_UNREAD_ANSWER.as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(&listener, millis)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::sockopt::tcp_user_timeout;

    use super::*;

    #[test]
    fn connections_inherit_the_limit() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(tcp_user_timeout(&accepted).unwrap(), 30_000);
    }
}
