package adminapi

import "time"

// RestartStatus is a chain of processes that replace each other by hot restart,
// as the one that answers sees it.
type RestartStatus struct {
	Time          time.Time    `json:"time"`    // now, by the clock that all other times are of
	Enabled       bool         `json:"enabled"` // false: hot restart is off, and most of the rest is empty
	Epoch         uint64       `json:"epoch"`   // of the process that answers
	Phase         string       `json:"phase"`   // of the whole: "serving", "prepare", "probation", "handed over", "draining"
	Since         time.Time    `json:"since"`   // when the phase began
	OriginalStart time.Time    `json:"original_start"`
	Generations   []Generation `json:"generations"`            // by epoch
	LastRestart   *LastRestart `json:"last_restart,omitempty"` // nil: there was none
	Restarts      Restarts     `json:"restarts"`
	Protocol      Protocol     `json:"protocol"`
	Segment       Segment      `json:"segment"`
	Store         Store        `json:"store"`
}

// Generation is one process of the chain that lives.
type Generation struct {
	Epoch       uint64 `json:"epoch"`
	PID         int    `json:"pid"`
	Version     string `json:"version"` // "": not known
	State       string `json:"state"`
	Main        bool   `json:"main"` // it is the service manager's main process
	Connections int64  `json:"connections"`
	// DrainingSince is zero for a generation that does not drain.
	DrainingSince time.Time `json:"draining_since,omitzero"`
	// TimeLeft is the time until shutdown_time ends what is left, in seconds, of a
	// generation that drains.
	TimeLeft float64 `json:"time_left_seconds,omitempty"`
	// HeartbeatAge is the time since the last heartbeat, in seconds.
	HeartbeatAge float64 `json:"heartbeat_age_seconds"`
}

// The results of a restart.
const (
	ResultOK         = "ok"
	ResultFailed     = "failed"      // before the new process accepted
	ResultRolledBack = "rolled back" // afterwards: the old process accepts again
)

// LastRestart is how the newest restart that has ended did so.
type LastRestart struct {
	At     time.Time `json:"at"`
	Epoch  uint64    `json:"epoch"`            // of the new process
	Result string    `json:"result"`           // one of Result…
	Reason string    `json:"reason,omitempty"` // "": ResultOK
	Took   float64   `json:"took_seconds"`
	Cut    int64     `json:"cut_connections"` // of older generations, which had to end for it
}

// Restarts counts the restarts of the chain by their result.
type Restarts struct {
	OK         uint64 `json:"ok"`
	Failed     uint64 `json:"failed"`
	RolledBack uint64 `json:"rolled_back"`
}

// Protocol is the versions of the hot-restart protocol that the process speaks.
type Protocol struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Segment is the shared memory of the chain.
type Segment struct {
	Path    string `json:"path"`
	Version int    `json:"version"` // of its layout
}

// Store is the service manager's store of descriptors.
type Store struct {
	Sockets int  `json:"sockets"` // listen sockets of ours in it
	Refused bool `json:"refused"` // it takes none: a crash makes clients be refused until the next start
}

// DrainStatus says whether the daemon drains for a balancer: it answers every
// request, but has connections end and is not ready.
type DrainStatus struct {
	Draining    bool      `json:"draining"`
	Since       time.Time `json:"since,omitzero"` // zero: it does not drain
	Connections int64     `json:"connections"`    // open client connections
}
