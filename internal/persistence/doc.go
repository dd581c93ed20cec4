// Package persistence says which endpoint a session belongs to: sealed tokens
// that travel in a cookie or a header, the keys that seal them, and stick
// tables that remember a key of the client. It decides nothing about health and
// does no I/O on the data path; only the keyring's file is read and written,
// by the control plane.
//
// The semantics follow HAProxy's (configuration manual, 4.2 "cookie" and 11.1
// "stick-table") where these keep a session alive: the first valid cookie of
// several wins, the cookie can be hidden from the server, idle time and age are
// checked by the proxy. The token itself is different: it is encrypted, tells
// no address, and is good on every machine that has the same keyring.
//
// Times are wall clock in seconds since 1970 as an unsigned 32-bit number
// (until the year 2106), because a token made on one machine is judged on
// another; callers pass the time they have cached for their turn of the loop.
package persistence
