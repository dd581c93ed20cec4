// Package tablestore shares a stick table between machines over Redis or Valkey.
//
// Requests use the table alone. One goroutine, Store.Run, follows the table's
// changes, writes them to the store and publishes them, and takes in what the other
// machines publish. Whatever the store does, a request neither waits nor fails.
//
// Under the prefix of a table the store has
//
//	k:KEY     "1 ENDPOINT GENERATION FIRST LAST": the endpoint's id in hexadecimal,
//	          the times in seconds since 1970; expires as the table's entry does
//	cleared   a list of the last orders to drop entries, for who was away then
//	changes   a channel: what changes, and orders to drop entries
//
// Every process writes what it learns, during a hot restart the old as well as the
// new one. What both have is the same, so that writing it twice does no harm, and it
// gets there when the other process or the link to it fails.
package tablestore
