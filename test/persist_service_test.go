package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// Whatever the service manager does to the service, and whatever kills it, cookies
// lead where they led: the keys are in StateDirectory=.
func TestServicePersistence(t *testing.T) {
	for name, trixie := range map[string]bool{"systemd 252": false, "systemd 257": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const servers = 3
			var list []string
			for i := range servers {
				list = append(list, fmt.Sprintf("{ id = \"e%d\", address = \"127.0.0.1:910%d\" }", i, i))
			}
			config := fmt.Sprintf("[hot_restart]\nprobation = \"200ms\"\n[listener.web]\naddress = %q\n[[listener.web.route]]\ncluster = \"back\"\n"+
				"[cluster.back]\nendpoints = [%s]\n[cluster.back.persistence.cookie]\nname = \"SRV\"\n", harness.FaultListener, strings.Join(list, ", "))
			b := startService(t, harness.ServiceOptions{Trixie: trixie, Config: config})
			b.InNetwork(func() {
				for i := range servers {
					harness.NewAppAt(t, fmt.Sprintf("e%d", i), fmt.Sprintf("127.0.0.1:910%d", i))
				}
			})
			dial := func(addr string) (net.Conn, error) { return b.TryDial(addr) }
			sessions := map[string]*harness.Browser{}
			for range 50 {
				v := &harness.Browser{Addr: harness.FaultListener, Dial: dial}
				sessions[v.MustGet(t, "/").Backend()] = v
			}
			st, err := os.Stat(b.Host("/var/lib/belay/persistence.keys"))
			if err != nil || st.Mode().Perm() != 0o600 || st.Sys().(*syscall.Stat_t).Uid == 0 {
				t.Errorf("the keys' file: %v, %v", st, err)
			}
			for _, step := range []struct {
				name string
				do   func()
			}{
				{"restart", func() { b.MustExec("systemctl", "restart", harness.FaultUnit) }},
				{"stop and start", func() {
					b.MustExec("systemctl", "stop", harness.FaultUnit)
					b.MustExec("systemctl", "start", harness.FaultUnit)
				}},
				{"kill -9", func() { killMain(t, b) }},
				{"reload", func() { mustReload(t, b) }},
				{"kill -9 after a reload", func() { killMain(t, b) }},
			} {
				step.do()
				b.WaitQuiet()
				for id, v := range sessions {
					if a := v.MustGet(t, "/"); a.Backend() != id || len(a.Header.Values("Set-Cookie")) != 0 {
						t.Errorf("%s: a session of %s is on %s", step.name, id, a.Backend())
					}
				}
			}
		})
	}
}
