package hotrestart

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
)

const patience = 10 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// serveTest answers State with n bytes and as many descriptors as PassSockets wants.
func serveTest(t *testing.T, blob []byte, fds []int) string {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Serve(path, func(r *Request) {
		switch r.Body.(type) {
		case *pb.Message_State:
			r.Reply(&pb.Message{Body: &pb.Message_StateReply{StateReply: &pb.StateReply{Blobs: []*pb.StateReply_Blob{{Data: blob}}}}})
		case *pb.Message_PassSockets:
			r.Reply(&pb.Message{Body: &pb.Message_PassSocketsReply{PassSocketsReply: &pb.PassSocketsReply{}}}, fds...)
		case *pb.Message_HandOver:
			r.Refuse(pb.Error_REFUSED, "not now")
		case *pb.Message_Pause: // never answered
		default:
			r.Refuse(pb.Error_UNKNOWN_MESSAGE, "?")
		}
	}, func(err error) { t.Log(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st, err)
	}
	return path
}

func TestCall(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: 17 packets
	var fds []int
	for range 300 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	c, err := Dial(serveTest(t, blob, fds), patience, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, got, err := c.Call(testContext(t), &pb.Message{Body: &pb.Message_State{State: &pb.State{}}})
	if err != nil || len(got) != 0 || !bytes.Equal(m.GetStateReply().Blobs[0].Data, blob) {
		t.Fatalf("state: %v, %d descriptors", err, len(got))
	}
	_, got, err = c.Call(testContext(t), &pb.Message{Body: &pb.Message_PassSockets{PassSockets: &pb.PassSockets{}}})
	if err != nil || len(got) != len(fds) {
		t.Errorf("sockets: %v, %d descriptors", err, len(got))
	}
	closeAll(got)
	var no *Refused
	if _, _, err = c.Call(testContext(t), &pb.Message{Body: &pb.Message_HandOver{HandOver: &pb.HandOver{}}}); !errors.As(err, &no) || no.Text != "not now" {
		t.Errorf("refusal: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err = c.Call(short, &pb.Message{Body: &pb.Message_Pause{Pause: &pb.Pause{}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	// A call that got no answer leaves the connection good.
	if _, _, err = c.Call(testContext(t), &pb.Message{Body: &pb.Message_State{State: &pb.State{}}}); err != nil {
		t.Errorf("after a timeout: %v", err)
	}
}
