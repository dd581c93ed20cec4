package traffic

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	protocol = "load-echo"
	bye      = "bye\n"
)

// upgrade lives one upgraded connection: lines go out and must come back. The
// last one is bye, behind which the backend closes.
func (c *client) upgrade() {
	more := "Connection: Upgrade\r\nUpgrade: " + protocol + "\r\n"
	began, life := time.Now(), c.spread(c.run.o.UpgradeFor)
	c.request("GET", "/upgrade", more, nil, func(resp *http.Response, uri string) *failure {
		if p := resp.Header.Get("Upgrade"); p != protocol {
			return &failure{WrongBody, fmt.Sprintf("upgraded to %q", p)}
		}
		for i := 0; ; i++ {
			if err := c.echo(fmt.Sprintf("%s %d\n", uri, i)); err != nil {
				return err
			}
			c.isReady()
			if !c.pause(echoEvery) || life > 0 && time.Since(began) > life {
				break
			}
		}
		return c.farewell()
	})
	c.hangUp()
}

// echo sends a line and waits for it to come back.
func (c *client) echo(line string) *failure {
	began := time.Now()
	_ = c.conn.SetDeadline(began.Add(c.run.o.Timeout))
	if _, err := io.WriteString(c.conn, line); err != nil {
		return failureOf(fmt.Errorf("upgraded: send: %w", err), true)
	}
	got, err := c.conn.r.ReadString('\n')
	if err != nil {
		return failureOf(fmt.Errorf("upgraded: %w", err), true)
	}
	if got != line {
		return &failure{WrongBody, fmt.Sprintf("upgraded: got %.80q, want %.80q", got, line)}
	}
	c.flush()
	c.count(func(n *Counts) { n.Messages++ })
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	c.run.result.Echo.note(began, time.Now())
	return nil
}

func (c *client) farewell() *failure {
	if err := c.echo(bye); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.run.o.Timeout))
	_, err := c.conn.r.ReadByte()
	switch {
	case err == nil:
		return &failure{WrongBody, "upgraded: bytes behind the last line"}
	case !errors.Is(err, io.EOF):
		return failureOf(fmt.Errorf("upgraded: at the end: %w", err), true)
	}
	return nil
}
