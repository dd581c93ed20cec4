// Package accesslog writes one line for each exchange, off the workers: a worker
// formats the line into a batch of its own, and one goroutine writes the batches.
// A disk that is slow or full never blocks a worker; beyond a bound of bytes
// whole lines are dropped and counted.
//
//	worker: Append -> batch -> (32 KiB: push | turn end: park) -> writer: write
//
// # Formats
//
// The format "json" is an object a line. Its members are, in this order: time,
// listener, client, client_port, peer, method, host, path, protocol, status,
// reason, bytes_in, bytes_out, duration, route, cluster, endpoint,
// endpoint_address, attempts, reused, upstream_connect, upstream_first_byte,
// user_agent, referer, request_id, forwarded_for, connection, tls_version,
// tls_cipher, tls_group, tls_sni, tls_alpn, tls_resumed, tls_client_subject,
// tls_ja4, tls_chain, tls_handshake. What is empty, was not reached, or is false
// is left out; numbers are always there.
//
// Any other format is text with %{name} in it; %% is a percent sign. The names
// are those above and these:
//
//	time                 start of the exchange, RFC 3339 with milliseconds, UTC
//	time_clf             the same as in the Common Log Format: 02/Jan/2006:15:04:05 +0000
//	time_unix            the same in seconds since 1970, with milliseconds
//	client, client_port  address of the client, as told by trusted proxies; the port is 0 if they did not tell
//	peer, peer_port      address at the other end of the connection; in JSON only if it is not the client's
//	request              method, path and protocol
//	path                 the target as received, with its query
//	status               status of the reply; 0 if there was none
//	reason               why belay answered itself or broke off; empty for a reply passed on whole
//	bytes_in, bytes_out  bytes of the bodies from and to the client
//	duration             first byte of the request to last byte of the reply, in seconds
//	upstream_connect     start of the last try to the connection being made, in seconds
//	upstream_first_byte  start of the last try to the first byte of its reply, in seconds
//	attempts             tries at endpoints
//	reused               true if the last try took a pooled connection
//	connection           number of the client's connection
//	tls_version          of the client's TLS: 1.2 or 1.3
//	tls_cipher           its cipher suite, as IANA names it
//	tls_group            its key exchange, as IANA names it; empty in a resumption of TLS 1.2
//	tls_sni              server name that the client asked for, as it wrote it
//	tls_alpn             protocol that both sides agreed on
//	tls_resumed          true if an earlier session was resumed
//	tls_client_subject   of the client's certificate, as RFC 4514 writes it
//	tls_ja4              fingerprint of the ClientHello
//	tls_chain            filter chain; the listener's name for its own tls
//	tls_handshake        first byte to the end of the handshake, in seconds
//
// The four times exist with _ms and _us at the end, in milliseconds and
// microseconds. What is empty or was not reached is written as "-".
//
// Values come from strangers. In JSON they are escaped as JSON wants it, and bytes
// that are not UTF-8 become U+FFFD. In other formats a quote becomes \", a
// backslash \\, control characters \n, \r, \t or \xhh, and bytes that are not
// UTF-8 \xhh: a value cannot end its line, nor quotes that the format put round
// it. A value may hold spaces, so put quotes round values that can.
package accesslog
