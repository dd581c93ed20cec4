// Package hotrestart is the protocol by which one belay process takes over from
// another: a SOCK_SEQPACKET socket per generation in the hot-restart directory,
// Protobuf messages, listen sockets as SCM_RIGHTS.
//
// One restart, each step in the file named:
//
//	hook.go    Begin; starts the child, waits, tells the service manager
//	release.go the second line of ExecReload=
//	child.go   Hello → PassSockets → State → Pause (commit) → Report (probation)
//	attempt.go the parent's side of all that, which alone decides
//	node.go    the process's place in the chain: requests of every peer
//	elders.go  generations that drain: their counts, their end
//	exchange.go what each of them learns while they serve, told to the others
//
// Until Release everything can be undone; nothing in the parent is closed before.
package hotrestart

// Versions of the protocol that this program speaks. 0 is the frozen part alone.
const (
	MinVersion = 1
	MaxVersion = 1
)
