package cluster

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"belay/internal/eventloop"
)

// TestResolverState: what one process resolved the next one has at once, though
// no server answers it.
func TestResolverState(t *testing.T) {
	old := NewResolver(ResolverOptions{Hosts: write(t, filepath.Join(t.TempDir(), "hosts"), "10.1.2.3 back.test\n10.1.2.4 back.test\n10.9.9.9 gone.test\n")})
	old.Watch("back.test", 80, func([]eventloop.Address) {})
	old.Watch("gone.test", 80, func([]eventloop.Address) {})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	old.Start(ctx)
	old.o.InitialWait = 10 * time.Second
	old.WaitInitial(ctx)

	next := NewResolver(ResolverOptions{Hosts: write(t, filepath.Join(t.TempDir(), "hosts"), ""), Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, InitialWait: time.Hour})
	var got []eventloop.Address
	next.Watch("back.test", 81, func(a []eventloop.Address) { got = a })
	if err := next.Seed(StateVersion+1, old.State()); err == nil {
		t.Error("a later version is taken")
	}
	if err := next.Seed(StateVersion, []byte("{")); err == nil {
		t.Error("nonsense is taken")
	}
	if err := next.Seed(StateVersion, old.State()); err != nil {
		t.Fatal(err)
	}
	want := []eventloop.Address{{AP: netip.MustParseAddrPort("10.1.2.3:81")}, {AP: netip.MustParseAddrPort("10.1.2.4:81")}}
	if !slices.Equal(got, want) {
		t.Errorf("seeded with %v, want %v", got, want)
	}
	next.Start(ctx)
	next.WaitInitial(ctx) // an hour, if it waited for the name
}
