package server

import (
	"fmt"
	"os"
	"strings"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
)

// tlsCheck reads what TLS needs as a start would, and gathers what is to say of it.
type tlsCheck struct {
	store         *certs.Store
	now           time.Time
	warn          time.Duration // before an expiry
	noCredentials bool          // only the service has them
	contexts      []checkedContext
	seen          map[string]bool // certificates that were looked at
	refusing      map[string]bool // CRLs that refuse once they are past their next update

	notes    []string // what an operator may want to know
	problems []error  // what is wrong
}

// checkedContext is the TLS of a listener or a chain.
type checkedContext struct {
	at     string // where it is in the configuration
	tls    *config.TLS
	names  []string // server names that lead to it
	server *certs.Server
}

// checkTLS tells what is wrong, and beside it what an operator may want to know.
func checkTLS(cfg *config.Config) (notes []string, problems []error) {
	if !usesTLS(cfg) {
		return nil, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	c := &tlsCheck{
		store: certs.NewStore(certs.Options{Files: certs.Files{Credentials: dir}, TicketSecret: cfg.Server.TLS.TicketSecret.String()}),
		now:   time.Now(), warn: cfg.Server.TLS.ExpiryWarning, noCredentials: dir == "",
		seen: make(map[string]bool), refusing: make(map[string]bool),
	}
	for _, l := range cfg.Listeners {
		if l.TLS != nil {
			c.context("listener."+l.Name+".tls", l.TLS, nil)
		}
		for i, x := range l.Chains {
			if x.TLS != nil {
				c.context(fmt.Sprintf("listener.%s.chain[%d].tls", l.Name, i), x.TLS, x.ServerNames)
			}
		}
	}
	for _, x := range cfg.Clusters {
		if x.TLS != nil {
			c.cluster(x)
		}
	}
	c.selfSigned()
	active := make(map[string]bool)
	for _, st := range c.store.Status() {
		c.resource(&st)
		active[st.Source] = st.State == certs.Active.String()
	}
	for i := range c.contexts {
		c.names(&c.contexts[i], active)
	}
	return c.notes, c.problems
}

func (c *tlsCheck) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *tlsCheck) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// context makes the TLS that clients of a listener or a chain meet.
func (c *tlsCheck) context(at string, t *config.TLS, names []string) {
	server, err := c.store.Server(serverTLSOptions(t, at, c.store.Files()))
	if err != nil {
		c.problems = append(c.problems, err)
		return
	}
	c.contexts = append(c.contexts, checkedContext{at, t, names, server})
	if t.Client.CRL != (config.Secret{}) && t.Client.CRLExpired != "accept" {
		c.refusing[t.Client.CRL.String()] = true
	}
	for _, text := range server.Overlaps() {
		c.note("%s: %s", at, text)
	}
	for i := range t.Certificates {
		if x := &t.Certificates[i]; !x.SelfSigned {
			c.chain(at, x.Cert, x.Key, true)
		}
	}
}

// cluster makes the TLS towards a cluster.
func (c *tlsCheck) cluster(x *config.Cluster) {
	o := clientTLSOptions(x, c.store.Files())
	o.Name = "cluster." + x.Name + ".tls"
	if _, err := c.store.Client(o); err != nil {
		c.problems = append(c.problems, err)
	}
	if o.Certificate != nil {
		c.chain(o.Name, x.TLS.Cert, x.TLS.Key, false)
	}
}

func (c *tlsCheck) selfSigned() {
	var at []string
	for _, x := range c.contexts {
		for i := range x.tls.Certificates {
			if x.tls.Certificates[i].SelfSigned {
				at = append(at, x.at)
				break
			}
		}
	}
	if len(at) > 0 {
		c.note("a self-signed certificate is for development: no client trusts it (%s)", strings.Join(at, ", "))
	}
}

// unreachable tells of what only the service can read.
func (c *tlsCheck) unreachable(source string) bool {
	return c.noCredentials && strings.Contains(source, certs.CredentialPrefix)
}

// resource judges what the store says of a file.
func (c *tlsCheck) resource(st *certs.Status) {
	at := strings.Join(st.UsedBy, ", ")
	if at == "" {
		at = "server.tls.ticket_secret"
	}
	at += ": " + st.Source
	if st.Error != "" {
		if c.unreachable(st.Source) {
			c.note("%s is not checked: only the service has its credentials", at)
			return
		}
		c.problem("%s: %s", at, st.Error)
		return
	}
	for _, text := range st.Warnings {
		c.note("%s: %s", at, text)
	}
	if st.Staple != "" && !strings.HasPrefix(st.Staple, "good") {
		c.note("%s: OCSP staple: %s", at, st.Staple)
	}
	c.authorities(at, st.Authorities)
	if st.NextUpdate == nil || c.now.Before(*st.NextUpdate) {
		return
	}
	due := st.NextUpdate.UTC().Format(time.RFC3339)
	if c.refusing[st.Source] {
		c.problem("%s: a list was to be renewed by %s: whom it is about is refused", at, due)
		return
	}
	c.note("%s: a list was to be renewed by %s", at, due)
}

// authorities judges the certificates of a CA file: those that have expired verify
// nobody.
func (c *tlsCheck) authorities(at string, list []certs.Info) {
	expired := 0
	for i := range list {
		x := &list[i]
		switch left := x.NotAfter.Sub(c.now); {
		case left <= 0:
			expired++
			c.note("%s: the authority %s has expired at %s", at, x.Subject, x.NotAfter.UTC().Format(time.RFC3339))
		case left < c.warn:
			c.note("%s: the authority %s expires at %s", at, x.Subject, x.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if expired > 0 && expired == len(list) {
		c.problem("%s: every authority has expired", at)
	}
}

// names asks for the server names of a context as a client would. That needs every
// certificate: one that could not be read may be the one for the name.
func (c *tlsCheck) names(x *checkedContext, active map[string]bool) {
	for _, source := range serverTLSOptions(x.tls, x.at, c.store.Files()).Certificates {
		if !active[source.Name()] {
			return
		}
	}
	ask := x.names
	if len(ask) == 0 {
		ask = []string{""}
	}
	for _, name := range ask {
		parent, wild := strings.CutPrefix(name, "*.")
		probe := name
		if wild {
			probe = "name." + parent
		}
		e := x.server.Explain(certs.Query{ServerName: probe})
		switch {
		case e.State != certs.Active.String():
			return // for an authority or a list, of which there is more to say elsewhere
		case e.Refused != "" && name == "":
			c.problem("%s: clients are refused: %s", x.at, e.Refused)
		case e.Refused != "":
			c.problem("%s: clients of %s are refused: %s", x.at, name, e.Refused)
		case name != "" && !wild && e.Name == certs.NameDefault.String():
			c.note("%s: no certificate is for %s: its clients get %s", x.at, name, e.Certificate)
		}
	}
}
