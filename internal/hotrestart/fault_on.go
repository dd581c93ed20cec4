//go:build fault

package hotrestart

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// Fault does what the file named by BELAY_FAULT asks for at this point, once: a
// file with a line "POINT ACTION", which is removed before the action. Actions:
// kill, stop, exit, panic, sleep=DURATION.
func Fault(point string) {
	path := os.Getenv("BELAY_FAULT")
	if path == "" {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	f := strings.Fields(string(data))
	if len(f) != 2 || f[0] != point || os.Rename(path, path+".done") != nil {
		return
	}
	fmt.Fprintf(os.Stderr, "fault: %s %s in process %d\n", point, f[1], os.Getpid())
	switch action, arg, _ := strings.Cut(f[1], "="); action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond) // the signal takes effect on return to user space of some thread
	case "exit":
		os.Exit(3)
	case "panic":
		panic("fault: " + point)
	case "sleep":
		d, _ := time.ParseDuration(arg)
		time.Sleep(d)
	}
}

// versions is the range of the protocol that this program speaks, or says it
// does: BELAY_PROTOCOL="MIN MAX".
func versions() (low, high uint32) {
	if n, _ := fmt.Sscan(os.Getenv("BELAY_PROTOCOL"), &low, &high); n == 2 {
		return low, high
	}
	return MinVersion, MaxVersion
}
