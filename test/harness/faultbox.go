package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FaultBox is a box with belay as its package lays it down, but for a program
// that can be made to die, stop or wait at the points of a hot restart. A backend
// runs beside it.
type FaultBox struct {
	*Box
	Backend *LoadBackend
}

// What every fault box has: its listener, the admin socket, the unit.
const (
	FaultListener = "127.0.0.1:8080"
	FaultAdmin    = "/run/belay/admin.sock"
	FaultUnit     = "belay.service"

	faultFile   = "/run/belay/fault"
	faultConfig = "/etc/belay/belay.toml"
	faultDropIn = "/etc/systemd/system/belay.service.d/fault.conf"
	faultWait   = 30 * time.Second // for what takes a second or two
)

// BootFaultBox boots a box in which belay serves. A watchdog of 6 s stands in
// for the unit's 30: half of that, which is left when it was fed last, is more than
// a call may take.
func BootFaultBox(t testing.TB, trixie bool) *FaultBox {
	t.Helper()
	root := Root(t)
	b := &FaultBox{Box: BootBox(t, BoxOptions{Trixie: trixie, Copy: map[string]string{
		"/usr/lib/systemd/system/belay.service": filepath.Join(root, "systemd/belay.service"),
		"/usr/lib/sysusers.d/belay.conf":        filepath.Join(root, "systemd/belay.sysusers"),
		"/usr/sbin/belayd":                      FaultBinary(t),
	}})}
	b.MustExec("systemd-sysusers")
	b.Backend = StartLoadBackend(b.Box, "127.0.0.1:9001")
	b.Configure(2)
	b.DropIn("")
	b.MustExec("systemctl", "start", FaultUnit)
	return b
}

// For is the box for a part of the test, which a failure then ends.
func (b *FaultBox) For(t testing.TB) *FaultBox {
	box := *b.Box
	box.t = t
	return &FaultBox{&box, b.Backend}
}

// Configure writes a configuration with so many workers.
func (b *FaultBox) Configure(workers int) {
	b.t.Helper()
	b.WriteFile(faultConfig, fmt.Sprintf(`[server]
workers = %d
stop_time = "3s"
[hot_restart]
probation = "200ms"
heartbeat = "500ms"
call_time = "2s"
prepare_time = "10s"
drain_time = "1s"
drain_strategy = "immediate"
shutdown_time = "5s"
[listener.web]
address = %q
[[listener.web.route]]
cluster = "back"
[cluster.back]
endpoints = [{ id = "a", address = "127.0.0.1:9001" }]
`, workers, FaultListener))
}

// Misconfigure writes a configuration that belay refuses.
func (b *FaultBox) Misconfigure() {
	b.t.Helper()
	b.WriteFile(faultConfig, "[server]\nworkers = \"many\"\n")
}

// DropIn gives the unit further settings of [Service] and drops those it had.
func (b *FaultBox) DropIn(more string) {
	b.t.Helper()
	b.WriteFile(faultDropIn, "[Service]\nEnvironment=BELAY_FAULT="+faultFile+"\nWatchdogSec=6s\n"+more)
	b.MustExec("systemctl", "daemon-reload")
}

// Fault has the process that comes to the point next act: kill, stop, exit,
// panic or sleep=DURATION.
func (b *FaultBox) Fault(point, action string) {
	b.t.Helper()
	_ = os.Remove(b.Host(faultFile + ".done")) // there is none the first time
	b.WriteFile(faultFile, point+" "+action+"\n")
}

// FaultActed reports whether a process has come to the point.
func (b *FaultBox) FaultActed() bool {
	_, err := os.Stat(b.Host(faultFile + ".done"))
	return err == nil
}

// NoFault takes a fault back that nobody has come to.
func (b *FaultBox) NoFault() {
	_ = os.Remove(b.Host(faultFile)) // it may have acted
}

// Reset starts the service anew, whatever state it is in.
func (b *FaultBox) Reset() {
	b.t.Helper()
	b.NoFault()
	b.Configure(2)
	b.DropIn("")
	b.Systemctl("kill", "--kill-whom=all", "--signal=KILL", FaultUnit) // there may be nobody
	b.MustExec("systemctl", "restart", FaultUnit)
}

// Reload is systemctl reload.
func (b *FaultBox) Reload() Output {
	b.t.Helper()
	return b.Systemctl("reload", FaultUnit)
}

// Daemons are the PIDs in the box of all generations; hooks are none.
func (b *FaultBox) Daemons() []int {
	b.t.Helper()
	return b.running("run")
}

// Hook is the PID in the box of the hook of a reload under way.
func (b *FaultBox) Hook() int {
	b.t.Helper()
	list := b.running("hot-restart")
	if len(list) != 1 {
		b.t.Fatalf("hooks: %v", list)
	}
	return list[0]
}

// running are the PIDs of the processes that run a command of belayd.
func (b *FaultBox) running(command string) (list []int) {
	b.t.Helper()
	for inside, host := range b.Processes() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", host))
		if args := strings.Split(string(data), "\x00"); err == nil && len(args) > 1 && filepath.Base(args[0]) == "belayd" && args[1] == command {
			list = append(list, inside)
		}
	}
	return list
}

// WaitQuiet waits until the unit is active and its main process is the only
// generation; it returns its PID.
func (b *FaultBox) WaitQuiet() int {
	b.t.Helper()
	main := 0
	var state string
	var daemons []int
	deadline := time.Now().Add(faultWait)
	for {
		state, main = b.state()
		daemons = b.Daemons()
		if state == "active running" && len(daemons) == 1 && daemons[0] == main {
			return main
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %v: one generation. The unit is %s, its main process %d, the generations are %v", faultWait, state, main, daemons)
		}
		time.Sleep(boxPoll)
	}
}

// Main is the unit's main process.
func (b *FaultBox) Main() int {
	b.t.Helper()
	_, main := b.state()
	return main
}

// state is that of the unit, and its main process.
func (b *FaultBox) state() (text string, main int) {
	b.t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(b.MustExec("systemctl", "show", FaultUnit, "--property=ActiveState,SubState,MainPID")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	main, _ = strconv.Atoi(values["MainPID"])
	return values["ActiveState"] + " " + values["SubState"], main
}

// Restarts is how often the manager has restarted the service by itself.
func (b *FaultBox) Restarts() int {
	b.t.Helper()
	n, err := strconv.Atoi(b.Property(FaultUnit, "NRestarts"))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Event is a journal entry of the unit.
type Event struct {
	Message, ID, Reason string
}

// Cursor is the end of the journal.
func (b *FaultBox) Cursor() string {
	b.t.Helper()
	_, cursor, ok := strings.Cut(b.MustExec("journalctl", "-q", "-n", "1", "-o", "cat", "--show-cursor"), "-- cursor: ")
	if !ok {
		b.t.Fatal("the journal has no cursor")
	}
	return strings.TrimSpace(cursor)
}

// Events are the unit's journal entries behind a cursor.
func (b *FaultBox) Events(cursor string) []Event {
	b.t.Helper()
	var list []Event
	for line := range strings.Lines(b.Journal("-u", FaultUnit, "--after-cursor="+cursor, "-o", "json")) {
		var e struct {
			Message any    `json:"MESSAGE"` // bytes, if it is no text
			ID      string `json:"MESSAGE_ID"`
			Reason  string `json:"BELAY_REASON"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Fatalf("journal: %v in %s", err, line)
		}
		text, _ := e.Message.(string)
		list = append(list, Event{text, e.ID, e.Reason})
	}
	return list
}

// Requests is how many requests belay has counted.
func (b *FaultBox) Requests() int64 {
	b.t.Helper()
	n, _ := b.Metric(FaultAdmin, "belay_listener_requests_total")
	return int64(n)
}
