package hotrestart

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/shm"

	"google.golang.org/protobuf/proto"
)

// FuzzAssembler feeds any sequence of packets, each behind two bytes with its
// length. What comes out is what was put in, of the announced size; what is wrong
// is an error and never more memory than was sent.
func FuzzAssembler(f *testing.F) {
	frame := func(list ...[]byte) (out []byte) {
		for _, p := range list {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(p))), p...)
		}
		return out
	}
	f.Add(frame(packet(1, 3, 0, 0, "abc"), packet(2, 0, 0, 0, "")))
	f.Add(frame(packet(1, 5, 0, 0, "abc"), packet(1, 5, 1, 0, "de")))
	f.Add(frame(packet(1, 5, 0, 0, "abc"), packet(1, 5, 2, 0, "de")))
	f.Add(frame(packet(1, maxMessage, 0, 0, "abc")))
	f.Add(frame([]byte("short")))
	f.Fuzz(func(t *testing.T, in []byte) {
		var a assembler
		var sent []byte
		for len(in) >= 2 {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			p := in[2 : 2+n]
			in = in[2+n:]
			complete, err := a.add(p, nil)
			if err != nil {
				a.drop()
				return
			}
			sent = append(sent, p[packetHead:]...)
			if cap(a.data) > len(sent)+1<<20 && cap(a.data) > 2*len(sent) {
				t.Fatalf("%d bytes held for %d sent", cap(a.data), len(sent))
			}
			if !complete {
				continue
			}
			if data, _ := a.take(); !bytes.Equal(data, sent) || len(data) != int(binary.BigEndian.Uint32(p[4:])) {
				t.Fatalf("message %q of the packets %q", data, sent)
			}
			sent = nil
		}
	})
}

// fuzzed is a live process that strangers, hooks and children send anything to.
type fuzzed struct {
	n    *Node
	f    *fake
	good *Conn
	path string
}

func startFuzzed(f *testing.F) *fuzzed {
	o := testOptions(f.TempDir())
	x := &fuzzed{path: SocketPath(o.Directory, 0, 1), f: &fake{name: "A", book: &book{}}}
	var err error
	if x.n, err = Cold(o); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(x.n.Close)
	if err = x.n.Run(x.f); err != nil {
		f.Fatal(err)
	}
	if x.good, err = Dial(x.path, patience, nil); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(x.good.Close)
	return x
}

// peer connects as a stranger, a hook that has begun, or a child that has said
// hello. A child is this process here, which must not be killed for its end.
func (x *fuzzed) peer(t *testing.T, role byte) (list []*Conn) {
	dial := func() *Conn {
		c, err := Dial(x.path, patience, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
		return c
	}
	c := dial()
	if role%3 == 0 {
		return list
	}
	m, err := call(t, c, &pb.Message{Body: &pb.Message_Begin{Begin: ourVersions()}})
	if err != nil {
		t.Fatal(err)
	}
	if role%3 == 1 {
		return list
	}
	hello := &pb.Hello{MinVersion: MinVersion, MaxVersion: MaxVersion, Epoch: m.GetBeginReply().GetEpoch(), Token: m.GetBeginReply().GetToken()}
	if _, err := call(t, dial(), &pb.Message{Body: &pb.Message_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	x.n.do(func() { x.n.attempt.childID = shm.Identity{} })
	return list
}

// reset makes the process main again, whatever it was talked into.
func (x *fuzzed) reset(t *testing.T) {
	ready := func() (ok bool) {
		x.n.do(func() {
			ok = x.n.attempt == nil
			x.n.role, x.n.main, x.n.elders = roleMain, nil, make(map[uint64]*elder)
		})
		return ok
	}
	for end := time.Now().Add(patience); !ready(); time.Sleep(100 * time.Microsecond) { // the end of the connections is on its way
		if time.Now().After(end) {
			t.Fatal("a restart is under way whose hook has ended")
		}
	}
	x.f.book.mu.Lock()
	x.f.book.lines = nil
	x.f.book.mu.Unlock()
}

// FuzzMessage sends any bytes to a live process, as a message and as packets, by
// whoever may be connected: it never panics, a restart whose hook has ended is
// over, and the next peer is served.
func FuzzMessage(f *testing.F) {
	for role := range byte(6) {
		for _, m := range everyMessage() {
			data, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(role, data)
		}
	}
	f.Add(byte(0), packet(1, 100, 0, 0, "half a message"))
	f.Add(byte(3), []byte{0xff, 0xff, 0xff})
	x := startFuzzed(f)
	f.Fuzz(func(t *testing.T, role byte, data []byte) {
		list := x.peer(t, role)
		c := list[len(list)-1]
		if len(data) > maxPacket-packetHead {
			data = data[:maxPacket-packetHead]
		}
		if role%2 == 0 {
			data = append(packet(1<<30, uint32(len(data)), 0, 0, ""), data...)
		}
		_, _ = c.sock.Write(data) // an empty or too long one fails
		if _, err := call(t, x.good, &pb.Message{Body: &pb.Message_Ping{Ping: &pb.Ping{}}}); err != nil {
			t.Fatalf("another peer: %v", err)
		}
		_ = c.sock.CloseWrite() // it reads all before it sees the end
		if role%3 != 0 || role%2 == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			select {
			case <-c.Done():
			case <-ctx.Done():
				t.Fatal("the connection does not end")
			}
		}
		for _, c := range list {
			c.Close()
		}
		x.reset(t)
	})
}

// everyMessage is one of each kind, with something in it.
func everyMessage() (list []*pb.Message) {
	fields := (&pb.Message{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		for _, id := range []uint64{0, 7} {
			m := &pb.Message{Id: id}
			m.ProtoReflect().Mutable(fields.Get(i))
			list = append(list, m)
		}
	}
	return append(list,
		&pb.Message{Id: 1, Descriptors: 4, Body: &pb.Message_Ping{Ping: &pb.Ping{}}},
		&pb.Message{Id: 1, Reply: true, Body: &pb.Message_Ack{Ack: &pb.Ack{}}},
		&pb.Message{Id: 1, Body: &pb.Message_Pause{Pause: &pb.Pause{Taken: []*pb.Address{{Tcp: "127.0.0.1:80"}, {Unix: "/x"}, {Tcp: "x"}, {}}}}},
		&pb.Message{Body: &pb.Message_Report{Report: &pb.Report{Probed: true, ProbeError: "x", Deltas: []*pb.Delta{{Family: "n", Count: 1, Labels: []string{"a", "b"}}, {Family: "m", Kind: 99}, {Labels: []string{"a"}}}}}},
		&pb.Message{Body: &pb.Message_Phase{Phase: &pb.Phase{Name: pb.Phase_FAILED, Reason: "x", ChildPid: 1}}},
		&pb.Message{Id: 9, Body: &pb.Message_Hello{Hello: &pb.Hello{MaxVersion: 1 << 31, Role: pb.Hello_SUCCESSOR}}},
	)
}
