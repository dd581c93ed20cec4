package listener

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"belay/internal/eventloop"
)

// probe is a connection of our own that the acceptors shall recognise.
type probe struct {
	source   eventloop.Address
	others   atomic.Uint64 // connections accepted meanwhile
	accepted chan struct{} // closed by the acceptor that met it
}

// ErrNotProbed is of a listener that this process cannot reach, which says nothing
// about those for whom it is.
var ErrNotProbed = errors.New("it cannot be reached from here")

// Probe connects to the listener's own address and waits until one of its
// acceptors, on any worker, has that connection, which they close and count
// nowhere. A wildcard is reached over the loopback address of its family. others
// is how many ordinary connections the listener accepted meanwhile, which shows
// as well as the probe that it accepts. ErrNotProbed are an address of which this
// host has only the listeners, and a Unix socket to which others may connect. It is
// for the control plane; one at a time.
func (l *Listener) Probe(ctx context.Context) (others uint64, err error) {
	targets := l.targets()
	if at := targets[0]; at.Unix == "" {
		if local, err := eventloop.Local(at.AP.Addr()); !local && err == nil && len(targets) == 1 {
			return 0, fmt.Errorf("listener.%s: probe %s: %w: this host does not have the address", l.Config.Name, at, ErrNotProbed)
		}
	}
	for i, at := range targets {
		others, err = l.probeAt(ctx, at)
		if i+1 < len(targets) && notHere(err) {
			continue
		}
		if at.Unix != "" && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)) {
			err = fmt.Errorf("%w: %w", ErrNotProbed, err)
		}
		if err != nil {
			err = fmt.Errorf("listener.%s: probe %s: %w", l.Config.Name, at, err)
		}
		break
	}
	return others, err
}

// targets are the addresses at which the listener can be reached from here, the
// later ones for want of the earlier ones.
func (l *Listener) targets() []eventloop.Address {
	at := l.Address
	if at.Unix != "" || !at.AP.Addr().IsUnspecified() {
		return []eventloop.Address{at}
	}
	port := at.AP.Port()
	v4 := []eventloop.Address{
		{AP: netip.AddrPortFrom(netip.AddrFrom4(quietLoopback), port)},
		{AP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)},
	}
	if at.AP.Addr().Unmap().Is4() {
		return v4
	}
	v6 := []eventloop.Address{{AP: netip.AddrPortFrom(netip.IPv6Loopback(), port)}}
	if l.v6only {
		return v6
	}
	return append(v6, v4...)
}

// quietLoopback is an address of 127/8, all of which is this host's unless its
// administrator says otherwise (RFC 1122 3.2.1.3). Nobody listens there alone, as
// another generation may on 127.0.0.1, whose socket would get the probe.
var quietLoopback = [4]byte{127, 90, 90, 90}

// notHere: the address, or its whole family, is not one of this host's.
func notHere(err error) bool {
	for _, e := range []error{syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errProbing = errors.New("another probe is under way")

func (l *Listener) probeAt(ctx context.Context, at eventloop.Address) (others uint64, err error) {
	var p *probe
	conn, err := eventloop.Dial(ctx, at, func(source eventloop.Address) error {
		l.probe.CompareAndSwap(p, nil) // of a first try
		p = &probe{source: source, accepted: make(chan struct{})}
		if !l.probe.CompareAndSwap(nil, p) {
			return errProbing
		}
		return nil
	})
	if p == nil {
		return 0, err
	}
	defer l.probe.CompareAndSwap(p, nil)
	if err != nil {
		return p.others.Load(), err
	}
	defer conn.Close()
	select {
	case <-p.accepted:
		return p.others.Load(), nil
	case <-ctx.Done():
	}
	err = fmt.Errorf("not accepted: %w", ctx.Err())
	if l.Throttled() {
		err = fmt.Errorf("not accepted, since accepting is throttled: %w", ctx.Err())
	}
	return p.others.Load(), err
}

// met reports whether the accepted connection fd is the probe, which is over
// then.
func (l *Listener) met(p *probe, fd int, peer netip.AddrPort) bool {
	if !p.is(fd, peer) {
		p.others.Add(1)
		return false
	}
	if l.probe.CompareAndSwap(p, nil) {
		close(p.accepted)
	}
	return true
}

// is compares addresses; on a Unix socket, where another network namespace may
// have the same name, also the process.
func (p *probe) is(fd int, peer netip.AddrPort) bool {
	if p.source.Unix == "" {
		return peer.Port() == p.source.AP.Port() && peer.Addr() == p.source.AP.Addr().WithZone("")
	}
	pid, name, err := eventloop.UnixPeer(fd)
	return err == nil && pid == os.Getpid() && name == p.source.Unix
}
