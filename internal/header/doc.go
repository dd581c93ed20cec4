// Package header holds the fields of one HTTP message in the order in which
// they came, without copying and without allocating.
//
// A Map keeps 24-byte entries without pointers. An entry names a byte area and
// an offset for its name and for its value:
//
//	area 0     the parsed head, owned by the connection (Reset, Rebase)
//	area 1     the names of all registered fields, each followed by ": "
//	area 2..n  chunks of the map's own slab, and values lent by SetRef
//
// Three ways lead to an entry: by Handle through an array (names known when the
// program starts), by name through Lookup and the same array, and for all other
// names through a scan, or from 16 fields on through an index built on demand.
//
// Bytes written to a chunk never change and chunks never move, so every slice a
// Map hands out stays as it is until Reset or Release, whatever is set, removed
// or added in between; slices of area 0 live as long as the bytes given to
// Reset.
package header
