package cluster

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hostsFile is hosts(5), read again when it changes.
type hostsFile struct {
	path string

	mu      sync.Mutex // guards what follows
	changed time.Time
	size    int64
	names   map[string][]netip.Addr
}

// lookup returns the addresses of a name, or none.
func (h *hostsFile) lookup(host string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := os.Stat(h.path)
	if err != nil {
		h.names = nil
		return nil
	}
	if h.names == nil || !info.ModTime().Equal(h.changed) || info.Size() != h.size {
		data, err := os.ReadFile(h.path)
		if err != nil {
			return nil
		}
		h.names, h.changed, h.size = parseHosts(string(data)), info.ModTime(), info.Size()
	}
	return append([]netip.Addr(nil), h.names[strings.ToLower(strings.TrimSuffix(host, "."))]...)
}

func parseHosts(text string) map[string][]netip.Addr {
	names := make(map[string][]netip.Addr)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, n := range f[1:] {
			n = strings.ToLower(n)
			names[n] = append(names[n], a.Unmap())
		}
	}
	return names
}
