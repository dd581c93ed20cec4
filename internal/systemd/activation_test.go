package systemd

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childRole in the environment makes this binary a service that systemd started.
const childRole = "BELAY_TEST_SOCKETS"

// inherited is what the service says about a descriptor.
type inherited struct {
	Socket
	Nonblock, Cloexec bool
	Port              int // 0 if it is no internet socket
}

// childReport is what the service says.
type childReport struct {
	Sockets []inherited
	Error   string
	Again   int      // sockets that a second call found
	Left    []string // of the environment
}

func TestMain(m *testing.M) {
	if os.Getenv(childRole) != "" {
		serviceMain()
		return
	}
	os.Exit(m.Run())
}

func serviceMain() {
	var report childReport
	sockets, err := Sockets()
	if err != nil {
		report.Error = err.Error()
	}
	for _, s := range sockets {
		report.Sockets = append(report.Sockets, inspect(s))
	}
	again, _ := Sockets()
	report.Again = len(again)
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			report.Left = append(report.Left, v)
		}
	}
	json.NewEncoder(os.Stdout).Encode(report)
}

func inspect(s Socket) inherited {
	i := inherited{Socket: s}
	flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
	i.Nonblock = err == nil && flags&unix.O_NONBLOCK != 0
	flags, err = unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0)
	i.Cloexec = err == nil && flags&unix.FD_CLOEXEC != 0
	if sa, err := unix.Getsockname(s.FD); err == nil {
		if sa, ok := sa.(*unix.SockaddrInet4); ok {
			i.Port = sa.Port
		}
	}
	return i
}

// service starts this binary as systemd does, with files from descriptor 3 on.
// The shell is there to set the PID before the binary runs under it.
func service(t *testing.T, files []*os.File, env ...string) childReport {
	t.Helper()
	cmd := exec.Command("sh", "-c", `test -n "$LISTEN_PID" || export LISTEN_PID=$$; exec "$0"`, os.Args[0])
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), append(env, childRole+"=1", "GORACE=atexit_sleep_ms=0")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var report childReport
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if report.Again != 0 || len(report.Left) != 0 {
		t.Errorf("a second call found %d sockets; left of the environment: %q", report.Again, report.Left)
	}
	return report
}

// listeners makes n blocking listeners and their ports.
func listeners(t *testing.T, n int) (files []*os.File, ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		l.Close()
		t.Cleanup(func() { f.Close() })
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files, ports
}

func TestSockets(t *testing.T) {
	files, ports := listeners(t, 3)
	for _, tt := range []struct {
		name  string
		env   []string
		names []string
	}{
		{"named", []string{"LISTEN_FDS=3", "LISTEN_FDNAMES=web:admin:web"}, []string{"web", "admin", "web"}},
		{"some unnamed", []string{"LISTEN_FDS=3", "LISTEN_FDNAMES=:admin:"}, []string{"", "admin", ""}},
		{"no names", []string{"LISTEN_FDS=3"}, []string{"", "", ""}},
		{"empty names", []string{"LISTEN_FDS=3", "LISTEN_FDNAMES="}, []string{"", "", ""}},
		{"fewer than open", []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=web"}, []string{"web"}},
		{"none", []string{"LISTEN_FDS=0"}, nil},
		{"variable missing", nil, nil},
		{"of another process", []string{"LISTEN_PID=1", "LISTEN_FDS=3", "LISTEN_FDNAMES=web:admin:web"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range files { // a run before this one made the shared description non-blocking
				if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
					t.Fatal(err)
				}
			}
			var want []inherited
			for i, name := range tt.names {
				want = append(want, inherited{Socket: Socket{Name: name, FD: 3 + i}, Nonblock: true, Cloexec: true, Port: ports[i]})
			}
			got := service(t, files, tt.env...)
			if got.Error != "" || !slices.Equal(got.Sockets, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestSocketsNotOpen(t *testing.T) {
	files, _ := listeners(t, 1)
	got := service(t, files, "LISTEN_FDS=2000000000", "LISTEN_FDNAMES=")
	if !strings.Contains(got.Error, "LISTEN_FDS=2000000000") || !strings.Contains(got.Error, "bad file descriptor") || got.Sockets != nil {
		t.Errorf("%+v", got)
	}
}

func TestSocketsGarbage(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, tt := range []struct{ name, pid, fds, names, want string }{
		{"PID", "me", "1", "", "LISTEN_PID=me"},
		{"PID too large", "99999999999", "1", "", "LISTEN_PID=99999999999"},
		{"count", self, "some", "", "LISTEN_FDS=some"},
		{"negative count", self, "-1", "", "LISTEN_FDS=-1"},
		{"count too large", self, "2147483648", "", "LISTEN_FDS=2147483648"},
		{"more names", self, "1", "a:b", "LISTEN_FDNAMES=a:b: 2 names for the 1"},
		{"fewer names", self, "3", "a:b", "LISTEN_FDNAMES=a:b: 2 names for the 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("LISTEN_PID", tt.pid)
			t.Setenv("LISTEN_FDS", tt.fds)
			t.Setenv("LISTEN_FDNAMES", tt.names)
			sockets, err := Sockets()
			if err == nil || !strings.Contains(err.Error(), tt.want) || sockets != nil {
				t.Errorf("%v, %v; want %q", sockets, err, tt.want)
			}
			for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
				if v, ok := os.LookupEnv(name); ok {
					t.Errorf("%s=%s is left", name, v)
				}
			}
		})
	}
}

func TestWatchdogInterval(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		name, usec, pid string
		want            time.Duration
	}{
		{"ours", "30000000", self, 30 * time.Second},
		{"anybody's", "500000", "", 500 * time.Millisecond},
		{"of another process", "30000000", "1", 0},
		{"none", "", "", 0},
		{"zero", "0", self, 0},
		{"negative", "-1", self, 0},
		{"no number", "soon", self, 0},
		{"no PID", "30000000", "me", 0},
		{"infinity", "18446744073709551615", self, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			if got, on := WatchdogInterval(); got != tt.want || on != (tt.want > 0) {
				t.Errorf("%v, %v; want %v", got, on, tt.want)
			}
			for _, name := range []string{"WATCHDOG_USEC", "WATCHDOG_PID"} {
				if v, ok := os.LookupEnv(name); ok {
					t.Errorf("%s=%s is left", name, v)
				}
			}
		})
	}
}

func TestOnJournal(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Fstat(2, &st); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, stream string
		want         bool
	}{
		{"stderr", fmt.Sprintf("%d:%d", st.Dev, st.Ino), true},
		{"redirected", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1), false},
		{"garbage", "journal", false},
		{"unset", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("JOURNAL_STREAM", tt.stream)
			if got := OnJournal(); got != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}
