package server

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
)

// checkTLS reads what TLS needs as a start would. What is wrong are problems; what
// an operator may want to know are notes.
func checkTLS(cfg *config.Config) (notes []string, problems []error) {
	if !usesTLS(cfg) {
		return nil, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	store := certs.NewStore(certs.Options{Files: certs.Files{Credentials: dir}, TicketSecret: cfg.Server.TLS.TicketSecret.String()})
	self := false
	context := func(at string, t *config.TLS) {
		self = self || slices.ContainsFunc(t.Certificates, func(c config.Certificate) bool { return c.SelfSigned })
		c, err := store.Server(serverTLSOptions(t, at, store.Files()))
		if err != nil {
			problems = append(problems, err)
			return
		}
		for _, text := range c.Overlaps() {
			notes = append(notes, at+": "+text)
		}
	}
	for _, l := range cfg.Listeners {
		if l.TLS != nil {
			context("listener."+l.Name+".tls", l.TLS)
		}
		for i, c := range l.Chains {
			if c.TLS != nil {
				context(fmt.Sprintf("listener.%s.chain[%d].tls", l.Name, i), c.TLS)
			}
		}
	}
	for _, c := range cfg.Clusters {
		if c.TLS == nil {
			continue
		}
		o := clientTLSOptions(c, store.Files())
		o.Name = "cluster." + c.Name + ".tls"
		if _, err := store.Client(o); err != nil {
			problems = append(problems, err)
		}
	}
	if self {
		notes = append(notes, "a self-signed certificate is for development: no client trusts it")
	}
	now := time.Now()
	for _, st := range store.Status() {
		n, p := judge(&st, now, cfg.Server.TLS.ExpiryWarning, dir == "")
		notes, problems = append(notes, n...), append(problems, p...)
	}
	return notes, problems
}

// judge says what is to say of a resource.
func judge(st *certs.Status, now time.Time, warn time.Duration, noCredentials bool) (notes []string, problems []error) {
	at := strings.Join(st.UsedBy, ", ")
	if at == "" {
		at = "server.tls.ticket_secret"
	}
	if st.Error != "" {
		if noCredentials && strings.Contains(st.Source, certs.CredentialPrefix) {
			return []string{fmt.Sprintf("%s: %s is not checked: only the service has its credentials", at, st.Source)}, nil
		}
		return nil, []error{fmt.Errorf("%s: %s: %s", at, st.Source, st.Error)}
	}
	for _, text := range st.Warnings {
		notes = append(notes, fmt.Sprintf("%s: %s: %s", at, st.Source, text))
	}
	if st.Staple != "" && !strings.HasPrefix(st.Staple, "good") {
		notes = append(notes, fmt.Sprintf("%s: %s: OCSP staple: %s", at, st.Source, st.Staple))
	}
	if st.Info == nil {
		return notes, nil
	}
	switch left := st.NotAfter.Sub(now); {
	case left <= 0:
		problems = append(problems, fmt.Errorf("%s: %s has expired at %s", at, st.Source, st.NotAfter.UTC().Format(time.RFC3339)))
	case left < warn:
		notes = append(notes, fmt.Sprintf("%s: %s expires at %s", at, st.Source, st.NotAfter.UTC().Format(time.RFC3339)))
	}
	return notes, problems
}
