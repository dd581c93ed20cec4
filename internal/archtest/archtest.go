// Package archtest holds the layers of belay as data; its tests fail on an
// import that goes up or sideways, and on the other rules that hold the shape
// of the program. Do not change the tables to fix a build: a new edge is a
// decision about the design.
package archtest

// layers is the table of the design: an import goes only to a lower layer.
var layers = map[string]int{
	"accesslog": 0,
	"config":    0,
	"eventloop": 0,
	"header":    0,
	"headroom":  0,
	"netset":    0,
	"ratelog":   0,
	"shm":       0,
	"stats":     0,
	"systemd":   0,

	"certs":                   1,
	"clienthello":             1,
	"hotrestart":              1,
	"hotrestart/hotrestartpb": 1,
	"http1":                   1,
	"http2":                   1,
	"persistence":             1,
	"xfcc":                    1,
	"proxyproto":              1,

	"cluster":    2,
	"route":      2,
	"tablestore": 2,
	"transport":  2,

	"admin":          3,
	"admin/adminapi": 3,
	"health":         3,
	"listener":       3,
	"upstream":       3,

	"httpproxy": 4,
	"tcpproxy":  4,

	"server": 5,
}

// sideways are the edges within one layer that are meant.
var sideways = map[string][]string{
	"admin":      {"admin/adminapi"},          // the server and the client share the JSON types
	"hotrestart": {"hotrestart/hotrestartpb"}, // its messages
}

// outside says what packages beside internal import of belay. The black-box
// tests see the daemon as an operator does, so they import nothing of it.
var outside = map[string][]string{
	"bench":            {},
	"bench/headermap":  {"internal/header"},
	"cmd/belayctl":     {"internal/admin/adminapi"},
	"cmd/belayd":       {"examples", "internal/config", "internal/hotrestart", "internal/server", "internal/systemd"},
	"examples":         {},
	"packaging":        {"internal/config"},
	"systemd":          {"internal/systemd"},
	"test":             {"test/harness"},
	"test/box":         {"test/harness"},
	"test/box/load":    {"test/box/traffic"},
	"test/box/traffic": {},
	"test/harness":     {"test/box/traffic"},
	"test/runner":      {},
}

// fences say which packages of internal may import what is dangerous
// elsewhere. syscall is free for error numbers, signals and limits; see
// harmless.
var fences = map[string][]string{
	"unsafe":                {"eventloop", "header", "hotrestart/hotrestartpb", "shm"},
	"syscall":               {"eventloop", "hotrestart", "shm", "systemd", "transport"},
	"golang.org/x/sys/unix": {"eventloop", "hotrestart", "shm", "systemd", "transport"},
}

// harmless are the names of package syscall that need no fence: they are
// values and queries, and touch no descriptor.
const harmless = `^(Errno|E[A-Z0-9]+|SIG[A-Z0-9]+|Signal|Rlimit|Getrlimit|RLIMIT_[A-Z]+)$`
