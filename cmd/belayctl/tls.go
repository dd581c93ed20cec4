package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

// errCertificates is the verdict of belayctl certs --check.
var errCertificates = errors.New("a certificate needs attention")

const defaultExpiring = 14

func (p *program) certsCommand() *cobra.Command {
	var check bool
	days := defaultExpiring
	c := &cobra.Command{
		Use:   "certs",
		Short: "Show the certificates, their state and when they expire",
		Long: "Show the certificates, authorities and revocation lists that TLS needs: whether the newest are in use,\n" +
			"what is wrong with those that are not, and when they expire.",
		Example: "  belayctl certs --check --expiring 21",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := ask(c.Context(), p, (*adminapi.Client).Certificates)
			if err != nil {
				return err
			}
			now := time.Now()
			if err := p.print(list, func(w io.Writer) error { return writeCerts(w, list, now) }); err != nil {
				return err
			}
			if limit := time.Duration(days) * 24 * time.Hour; check && !allWell(list, now.Add(limit)) {
				return errCertificates
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "exit with status 1 if one is not active, has expired or expires soon")
	c.Flags().IntVar(&days, "expiring", days, "with --check: so many days are soon")
	return c
}

// allWell reports whether everything is in use and valid until a time.
func allWell(list []adminapi.Certificate, until time.Time) bool {
	for i := range list {
		c := &list[i]
		if c.State != adminapi.StateActive {
			return false
		}
		if at := expiry(c); !at.IsZero() && at.Before(until) {
			return false
		}
	}
	return true
}

// expiry is the first time at which something of c ends; zero: never.
func expiry(c *adminapi.Certificate) (at time.Time) {
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if c.CertificateInfo != nil {
		earlier(c.NotAfter)
	}
	for i := range c.Authorities {
		earlier(c.Authorities[i].NotAfter)
	}
	if c.NextUpdate != nil {
		earlier(*c.NextUpdate)
	}
	return at
}

func writeCerts(w io.Writer, list []adminapi.Certificate, now time.Time) error {
	s := newSheet("KIND", "STATE", "EXPIRES", "KEY", "NAMES", "SOURCE", "USED BY")
	for i := range list {
		c := &list[i]
		key, names := none, none
		if c.CertificateInfo != nil {
			key, names = c.KeyType, short(c.SANs)
			if len(c.SANs) == 0 {
				names = c.Subject
			}
		}
		s.add(c.Kind, c.State, expires(expiry(c), now), key, names, c.Source, short(c.UsedBy))
	}
	if err := s.write(w); err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		if c.Error != "" {
			fmt.Fprintf(w, "\n%s: %s\n", printable(c.Source), printable(c.Error))
		}
		for _, text := range c.Warnings {
			fmt.Fprintf(w, "\n%s: %s\n", printable(c.Source), printable(text))
		}
		if c.Staple != "" && !strings.HasPrefix(c.Staple, "good") {
			fmt.Fprintf(w, "\n%s: OCSP staple: %s\n", printable(c.Source), printable(c.Staple))
		}
	}
	return nil
}

// short lists a few, and says how many more there are.
func short(list []string) string {
	const shown = 3
	switch {
	case len(list) == 0:
		return none
	case len(list) > shown:
		return fmt.Sprintf("%s +%d", strings.Join(list[:shown], " "), len(list)-shown)
	}
	return strings.Join(list, " ")
}

func expires(at, now time.Time) string {
	switch left := at.Sub(now); {
	case at.IsZero():
		return none
	case left <= 0:
		return at.UTC().Format(time.DateOnly) + " (expired)"
	case left < 48*time.Hour:
		return fmt.Sprintf("%s (in %dh)", at.UTC().Format(time.DateOnly), int(left.Hours()))
	default:
		return fmt.Sprintf("%s (in %dd)", at.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
}

func (p *program) tlsCommand() *cobra.Command {
	c := &cobra.Command{Use: "tls", Short: "Ask about TLS", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(p.explainCommand())
	return c
}

func (p *program) explainCommand() *cobra.Command {
	var q adminapi.TLSQuery
	c := &cobra.Command{
		Use:   "explain",
		Short: "Show which filter chain and certificate a client would get, and why",
		Example: `  belayctl tls explain --sni shop.example.com
  belayctl tls explain --listener db --sni orders.db.example --alpn postgresql --source 10.0.0.7`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) ([]adminapi.TLSExplanation, error) {
				return a.ExplainTLS(ctx, q)
			})
			if err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) error { return writeExplanations(w, list) })
		},
	}
	f := c.Flags()
	f.StringVar(&q.SNI, "sni", "", "server name that the client asks for")
	f.StringVar(&q.Listener, "listener", "", "only this listener")
	f.StringSliceVar(&q.ALPN, "alpn", nil, "protocols that it offers")
	f.StringVar(&q.Source, "source", "", "its address")
	f.Uint16Var(&q.Port, "port", 0, "port that it connects to, if not the listener's")
	f.BoolVar(&q.TLS12, "tls12", false, "it knows TLS 1.2 only")
	f.BoolVar(&q.NoECDSA, "no-ecdsa", false, "it can verify RSA certificates only")
	_ = c.RegisterFlagCompletionFunc("listener", p.complete(listenerNames)) // the flag is there
	return c
}

func writeExplanations(w io.Writer, list []adminapi.TLSExplanation) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no listener has TLS")
		return err
	}
	for i := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := explained(&list[i]).write(w); err != nil {
			return err
		}
	}
	return nil
}

func explained(e *adminapi.TLSExplanation) facts {
	f := facts{{"listener", e.Listener}}
	add := func(name, value string) {
		if value != "" {
			f = append(f, [2]string{name, value})
		}
	}
	if e.Chain == "" {
		add("chain", "none: "+e.ChainWhy)
	} else {
		add("chain", fmt.Sprintf("%s (%s)", e.Chain, e.ChainWhy))
	}
	if e.Passthrough {
		add("tls", "passed through, belay does not see inside")
	}
	add("cluster", e.Cluster)
	add("state", e.State)
	if e.Certificate != "" {
		add("certificate", fmt.Sprintf("%s (name: %s; %s)", e.Certificate, e.NameMatch, e.Why))
	}
	if i := e.CertificateInfo; i != nil {
		add("subject", i.Subject)
		add("names", strings.Join(i.SANs, " "))
		add("issuer", i.Issuer)
		add("key", i.KeyType)
		add("expires", i.NotAfter.UTC().Format(time.RFC3339))
	}
	add("version", e.Version)
	add("alpn", e.Protocol)
	if e.Staple {
		add("ocsp staple", "sent")
	}
	if e.ClientCertificate != "" {
		policy := ""
		if e.ClientPolicy != "" {
			policy = ", policy " + e.ClientPolicy
		}
		add("client certificate", e.ClientCertificate+policy)
	}
	add("refused", e.Refused)
	return f
}
