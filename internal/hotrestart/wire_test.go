package hotrestart

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// packet is one packet as it is on the wire.
func packet(number, size uint32, part, zero uint16, payload string) []byte {
	p := binary.BigEndian.AppendUint32(nil, number)
	p = binary.BigEndian.AppendUint32(p, size)
	p = binary.BigEndian.AppendUint16(p, part)
	p = binary.BigEndian.AppendUint16(p, zero)
	return append(p, payload...)
}

func TestAssembler(t *testing.T) {
	for _, tt := range []struct {
		name    string
		packets [][]byte
		want    string // the message
		err     string
	}{
		{"one packet", [][]byte{packet(7, 3, 0, 0, "abc")}, "abc", ""},
		{"empty message", [][]byte{packet(7, 0, 0, 0, "")}, "", ""},
		{"two packets", [][]byte{packet(7, 5, 0, 0, "abc"), packet(7, 5, 1, 0, "de")}, "abcde", ""},
		{"part that only carries descriptors", [][]byte{packet(7, 1, 0, 0, ""), packet(7, 1, 1, 0, "a")}, "a", ""},
		{"shorter than a head", [][]byte{packet(7, 3, 0, 0, "")[:11]}, "", "11 bytes"},
		{"flags", [][]byte{packet(7, 3, 0, 1, "abc")}, "", "unknown flags 0x1"},
		{"over the limit", [][]byte{packet(7, maxMessage+1, 0, 0, "abc")}, "", "are the limit"},
		{"begins in the middle", [][]byte{packet(7, 5, 1, 0, "de")}, "", "part 1 without its beginning"},
		{"a part is missing", [][]byte{packet(7, 5, 0, 0, "a"), packet(7, 5, 2, 0, "b")}, "", "where part 1 of 7 was due"},
		{"another message between", [][]byte{packet(7, 5, 0, 0, "a"), packet(8, 5, 1, 0, "b")}, "", "part 1 of message 8 where"},
		{"a size that changes", [][]byte{packet(7, 5, 0, 0, "a"), packet(7, 6, 1, 0, "b")}, "", "was due"},
		{"more than announced", [][]byte{packet(7, 2, 0, 0, "abc")}, "", "3 bytes in a message of 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var a assembler
			for i, p := range tt.packets {
				complete, err := a.add(p, nil)
				if last := i == len(tt.packets)-1; complete != (last && tt.err == "") {
					t.Fatalf("packet %d: complete is %v, error %v", i, complete, err)
				}
				if err == nil {
					continue
				}
				if tt.err == "" || !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("packet %d: error %v, want %q", i, err, tt.err)
				}
				return
			}
			if data, fds := a.take(); tt.err != "" || string(data) != tt.want || fds != nil || a.active {
				t.Errorf("message %q with descriptors %v, want %q and error %q", data, fds, tt.want, tt.err)
			}
		})
	}
}

// A peer that sends one descriptor after another and never completes a message
// is stopped, and what it sent is closed.
func TestAssemblerBoundsDescriptors(t *testing.T) {
	a := assembler{fds: slices.Repeat([]int{-1}, maxDescriptors)}
	if _, err := a.add(packet(1, 5, 0, 0, "a"), nil); err != nil {
		t.Error(err)
	}
	if _, err := a.add(packet(1, 5, 1, 0, "a"), []int{-1}); !errors.Is(err, errMalformed) {
		t.Errorf("error %v", err)
	}
	a.drop()
	if a.fds != nil || a.active {
		t.Error("something is left")
	}
}

// sockets is a connected pair of seqpacket sockets.
func sockets(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		list[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return list[0], list[1]
}

// connTo is a Conn whose peer is a bare socket.
func connTo(t *testing.T, handle func(*Request)) (*Conn, *net.UnixConn) {
	t.Helper()
	a, b := sockets(t)
	c, err := newConn(a, handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	_ = b.SetDeadline(time.Now().Add(patience))
	return c, b
}

// nulls opens n descriptors.
func nulls(t *testing.T, n int) (fds []int) {
	t.Helper()
	for range n {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	t.Cleanup(func() { closeAll(fds) })
	return fds
}

// open counts the descriptors of this process that are open on /dev/null, which
// nothing but nulls opens: what else the process does is no matter.
func open(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == os.DevNull {
			n++
		}
	}
	return n
}

// wantOpen waits until as many descriptors are open: a Conn closes them on its
// own goroutine.
func wantOpen(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d descriptors open", n), func() bool { return open(t) == n })
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) { // between two looks
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func encode(t *testing.T, m *pb.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func stateCall() *pb.Message { return &pb.Message{Body: &pb.Message_State{State: &pb.State{}}} }
func ackOf(id uint64) *pb.Message {
	return &pb.Message{Id: id, Reply: true, Body: &pb.Message_Ack{Ack: &pb.Ack{}}}
}

// What writeMessage sends is what the assembler puts together, whatever the
// sizes; no packet has more descriptors than the kernel takes, and the last
// descriptors never come after the message is complete.
func TestMessageSizes(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, maxPayload - 1, maxPayload, maxPayload + 1, 3*maxPayload + 5} {
		for _, n := range []int{0, 1, fdsPerPacket, fdsPerPacket + 1, 300} {
			if size == 0 && n > fdsPerPacket {
				continue // no message is empty: a count of descriptors is in it
			}
			data := bytes.Repeat([]byte("x"), size)
			fds := nulls(t, n)
			base := open(t)
			from, to := sockets(t)
			sent := make(chan error, 1)
			go func() { sent <- writeMessage(from, 9, data, fds, time.Now().Add(patience)) }()
			var a assembler
			buf, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(fdsPerPacket*4))
			for complete := false; !complete; {
				k, got, err := readPacket(to, buf, oob)
				if err == nil {
					complete, err = a.add(buf[:k], got)
				}
				if err != nil {
					t.Fatalf("%d bytes, %d descriptors: %v", size, n, err)
				}
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			got, gotFDs := a.take()
			if !bytes.Equal(got, data) || len(gotFDs) != n || open(t) != base+n {
				t.Errorf("%d bytes, %d descriptors: got %d and %d", size, n, len(got), len(gotFDs))
			}
			closeAll(gotFDs)
			closeAll(fds)
		}
	}
}

// Whatever a peer does wrong ends its connection with a reason, fails the call
// under way, and leaves no descriptor behind.
func TestMalformedEndsTheConnection(t *testing.T) {
	whole := encode(t, ackOf(1))
	lies := func(n uint32) []byte {
		m := ackOf(1)
		m.Descriptors = n
		return encode(t, m)
	}
	for _, tt := range []struct {
		name    string
		packets [][]byte
		fds     int // with each packet
		err     string
	}{
		{"garbage", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, 0, "malformed"},
		{"short", [][]byte{{1, 2, 3}}, 2, "3 bytes"},
		{"no message inside", [][]byte{packet(1, 4, 0, 0, "\xff\xff\xff\xff")}, 2, "malformed"},
		{"huge", [][]byte{packet(1, 1<<31, 0, 0, "x")}, 1, "are the limit"},
		{"fewer descriptors than announced", [][]byte{packet(1, uint32(len(lies(3))), 0, 0, string(lies(3)))}, 2, "came with 2 descriptors, not 3"},
		{"more descriptors than announced", [][]byte{packet(1, uint32(len(lies(1))), 0, 0, string(lies(1)))}, 2, "came with 2 descriptors, not 1"},
		{"descriptors that were not announced", [][]byte{packet(1, uint32(len(whole)), 0, 0, string(whole))}, 1, "came with 1 descriptors, not 0"},
		{"a message that never ends, and then another", [][]byte{packet(1, 100, 0, 0, "x"), packet(2, 100, 0, 0, "x")}, 3, "was due"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fds := nulls(t, tt.fds)
			base := open(t)
			c, peer := connTo(t, nil)
			failed := make(chan error, 1)
			go func() {
				_, _, err := c.Call(testContext(t), stateCall())
				failed <- err
			}()
			readRaw(t, peer)
			for _, p := range tt.packets {
				if _, _, err := peer.WriteMsgUnix(p, unix.UnixRights(fds...), nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-failed; err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "State to process") {
				t.Errorf("the call: %v, want %q", err, tt.err)
			}
			<-c.Done()
			if !errors.Is(c.Err(), errMalformed) {
				t.Errorf("the end: %v", c.Err())
			}
			wantOpen(t, base)
		})
	}
}

// readRaw takes one message off a bare socket.
func readRaw(t *testing.T, c *net.UnixConn) *pb.Message {
	t.Helper()
	var a assembler
	buf, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(fdsPerPacket*4))
	for complete := false; !complete; {
		n, fds, err := readPacket(c, buf, oob)
		if err == nil {
			complete, err = a.add(buf[:n], fds)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, fds := a.take()
	closeAll(fds)
	m := &pb.Message{}
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func writeRaw(t *testing.T, c *net.UnixConn, number uint32, m *pb.Message, fds ...int) {
	t.Helper()
	m.Descriptors = uint32(len(fds))
	if err := writeMessage(c, number, encode(t, m), fds, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

// A reply that comes after its caller has given up is dropped, its descriptors
// with it, and the next call gets its own.
func TestLateReply(t *testing.T) {
	fds := nulls(t, 200)
	base := open(t)
	c, peer := connTo(t, nil)
	gone, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, _, err := c.Call(gone, stateCall())
		failed <- err
	}()
	late := readRaw(t, peer)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	writeRaw(t, peer, 1, ackOf(late.Id), fds...)
	writeRaw(t, peer, 2, ackOf(12345), fds[:1]...) // nobody ever asked for this one
	go func() {
		m := readRaw(t, peer)
		m.Reply, m.Body = true, &pb.Message_Phase{Phase: &pb.Phase{Reason: "mine"}}
		writeRaw(t, peer, 3, m)
	}()
	m, got, err := c.Call(testContext(t), stateCall())
	if err != nil || m.GetPhase().GetReason() != "mine" || len(got) != 0 {
		t.Errorf("the next call got %v, %d descriptors, %v", m, len(got), err)
	}
	wantOpen(t, base)
}

// A peer that dies during a call fails it at once; descriptors of half a message
// are closed.
func TestPeerDiesDuringCall(t *testing.T) {
	fds := nulls(t, 5)
	base := open(t)
	c, peer := connTo(t, nil)
	failed := make(chan error, 1)
	go func() {
		_, _, err := c.Call(testContext(t), stateCall())
		failed <- err
	}()
	readRaw(t, peer)
	if _, _, err := peer.WriteMsgUnix(packet(1, 10, 0, 0, "half"), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	_ = peer.Close()
	if err := <-failed; !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want ErrGone", err)
	}
	<-c.Done()
	if _, _, err := c.Call(testContext(t), stateCall()); !errors.Is(err, ErrGone) {
		t.Errorf("a call afterwards: %v", err)
	}
	if err := c.Notify(stateCall()); err == nil {
		t.Error("a notice afterwards went out")
	}
	wantOpen(t, base)
}

// A reply that comes right before the end counts.
func TestReplyBeforeTheEnd(t *testing.T) {
	for range 50 {
		c, peer := connTo(t, nil)
		go func() {
			writeRaw(t, peer, 1, ackOf(readRaw(t, peer).Id))
			_ = peer.Close()
		}()
		if _, _, err := c.Call(testContext(t), stateCall()); err != nil {
			t.Fatal(err)
		}
	}
}

// A peer that reads nothing cannot hold a call beyond its deadline, and the
// connection, on which half a message is out, is of no more use.
func TestPeerReadsNothing(t *testing.T) {
	c, _ := connTo(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	big := &pb.Message{Body: &pb.Message_StateReply{StateReply: &pb.StateReply{Blobs: []*pb.StateReply_Blob{{Data: make([]byte, 8<<20)}}}}}
	if _, _, err := c.Call(ctx, big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	<-c.Done()
}

// A message over the limit is not begun.
func TestMessageOverTheLimit(t *testing.T) {
	a, _ := sockets(t)
	if err := writeMessage(a, 1, make([]byte, maxMessage+1), nil, time.Now().Add(patience)); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Errorf("error %v", err)
	}
}

// What this version does not know is answered as such, and the connection is as
// good as before; an unknown notice has no answer.
func TestUnknownMessage(t *testing.T) {
	for _, handle := range []func(*Request){nil, func(r *Request) { r.Ack() }} {
		fds := nulls(t, 2)
		base := open(t)
		_, peer := connTo(t, handle)
		unknown := encode(t, &pb.Message{Id: 5, Descriptors: 2})
		unknown = append(unknown, 0xe2, 0x03, 0x01, 'x') // field 60, reserved for the hand-over of connections
		notice := append(encode(t, &pb.Message{}), 0xe2, 0x03, 0x01, 'x')
		for i, m := range [][]byte{notice, unknown} {
			if err := writeMessage(peer, uint32(i), m, fds[:2*i], time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}
		m := readRaw(t, peer)
		if m.Id != 5 || !m.Reply || m.GetError().GetCode() != pb.Error_UNKNOWN_MESSAGE {
			t.Errorf("answer %v", m)
		}
		if handle != nil {
			writeRaw(t, peer, 7, &pb.Message{Id: 6, Body: &pb.Message_Ping{Ping: &pb.Ping{}}})
			if m := readRaw(t, peer); m.Id != 6 || m.GetAck() == nil {
				t.Errorf("the next request: %v", m)
			}
		}
		wantOpen(t, base)
	}
}

// Requests wait for a slow handler in their order, and the end of the connection
// comes after all of them.
func TestRequestsInOrder(t *testing.T) {
	const all = 3 * queued
	var got []uint64
	c, peer := connTo(t, func(r *Request) { got = append(got, r.GetStatsAck().GetId()) })
	for i := range all {
		writeRaw(t, peer, uint32(i), &pb.Message{Body: &pb.Message_StatsAck{StatsAck: &pb.StatsAck{Id: uint64(i)}}})
	}
	_ = peer.Close()
	<-c.Done()
	if len(got) != all || !slices.IsSorted(got) {
		t.Errorf("%d requests, sorted: %v", len(got), slices.IsSorted(got))
	}
}

// What a peer said before it left is heard though it left something unread, and though
// a message to it was refused meanwhile.
func TestLastWordsOfAPeer(t *testing.T) {
	for name, after := range map[string]func(*Conn) error{
		"it left a notice unread":   func(*Conn) error { return nil },
		"a notice came too late":    func(c *Conn) error { return c.Notify(stateCall()) },
		"a call came too late":      func(c *Conn) error { _, _, err := c.Call(testContext(t), stateCall()); return err },
		"two notices came too late": func(c *Conn) error { return errors.Join(c.Notify(stateCall()), c.Notify(stateCall())) },
	} {
		t.Run(name, func(t *testing.T) {
			const all = 2 * queued // more than are read ahead
			hold := make(chan struct{})
			got := 0
			c, peer := connTo(t, func(*Request) { <-hold; got++ })
			if err := c.Notify(stateCall()); err != nil {
				t.Fatal(err)
			}
			for i := range all {
				writeRaw(t, peer, uint32(i), &pb.Message{Body: &pb.Message_StatsAck{StatsAck: &pb.StatsAck{Id: uint64(i)}}})
			}
			_ = peer.Close()
			if err := after(c); err != nil && !errors.Is(err, ErrGone) {
				t.Error(err)
			}
			close(hold)
			<-c.Done()
			if got != all {
				t.Errorf("%d requests of %d", got, all)
			}
		})
	}
}
