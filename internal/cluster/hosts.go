package cluster

import (
	"net/netip"
	"os"
	"strings"
	"sync"
)

// hostsFile is hosts(5), read again when it changes.
type hostsFile struct {
	path string

	mu    sync.Mutex  // guards what follows
	read  os.FileInfo // the file that names is from
	names map[string][]netip.Addr
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
	if h.names == nil || changed(h.read, info) {
		data, err := os.ReadFile(h.path)
		if err != nil {
			return nil
		}
		h.names, h.read = parseHosts(string(data)), info
	}
	return append([]netip.Addr(nil), h.names[strings.ToLower(strings.TrimSuffix(host, "."))]...)
}

func changed(a, b os.FileInfo) bool {
	return !os.SameFile(a, b) || !a.ModTime().Equal(b.ModTime()) || a.Size() != b.Size()
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
