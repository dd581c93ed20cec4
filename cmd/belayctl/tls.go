package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

// The verdicts of belayctl certs --check.
var (
	errCertificates = errors.New("a certificate is not in use or has expired")
	errExpiring     = errors.New("a certificate expires soon")
)

const defaultExpiring = 14 // days

func (p *program) certsCommand() *cobra.Command {
	var check bool
	days := defaultExpiring
	c := &cobra.Command{
		Use:   "certs",
		Short: "Show the certificates, their state and when they expire",
		Long: "Show the certificates, authorities and revocation lists that TLS needs: whether the newest are in use,\n" +
			"what is wrong with those that are not, and when they expire.",
		Example: `  belayctl certs --expiring 30
  belayctl certs --check`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if days < 0 || days > 100*366 {
				return usageError{errors.New("--expiring must be a number of days, 0 or more")}
			}
			list, err := ask(c.Context(), p, (*adminapi.Client).Certificates)
			if err != nil {
				return err
			}
			now := time.Now()
			soon := now.Add(time.Duration(days) * 24 * time.Hour)
			verdict := judge(list, now, soon)
			if c.Flags().Changed("expiring") {
				list = slices.DeleteFunc(list, func(c adminapi.Certificate) bool { return judgeOne(&c, now, soon) == nil })
			}
			if err := p.print(list, func(w io.Writer) error { return writeCerts(w, list, now) }); err != nil || !check {
				return err
			}
			return verdict
		},
	}
	c.Flags().BoolVar(&check, "check", false, "exit with status 1 if one is not active or has expired, else with 2 if one expires soon")
	c.Flags().IntVar(&days, "expiring", days, "show only what is not active, or expires within so many days; with --check, that is soon")
	_ = c.RegisterFlagCompletionFunc("expiring", cobra.NoFileCompletions) // the flag is there
	return c
}

// judge is the worst that there is to say of any; nil: all is well.
func judge(list []adminapi.Certificate, now, soon time.Time) (verdict error) {
	for i := range list {
		if err := judgeOne(&list[i], now, soon); verdict == nil || err == errCertificates {
			verdict = err
		}
	}
	return verdict
}

func judgeOne(c *adminapi.Certificate, now, soon time.Time) error {
	switch at := expiry(c); {
	case c.State != adminapi.StateActive || !at.IsZero() && !now.Before(at):
		return errCertificates
	case !at.IsZero() && at.Before(soon):
		return errExpiring
	}
	return nil
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
			key, names = c.KeyType, short(hosts(c.SANs))
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

// hosts has names without the type that most have.
func hosts(sans []string) []string {
	out := make([]string, len(sans))
	for i, s := range sans {
		out[i] = strings.TrimPrefix(s, "DNS:")
	}
	return out
}

// writeStates writes the states of certificates that come with the configuration
// as comments: its file has no place for them.
func writeStates(w io.Writer, raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var list []adminapi.Certificate
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		text := fmt.Sprintf("%s %s is %s", c.Kind, c.Source, c.State)
		if c.Error != "" {
			text += ": " + c.Error
		}
		fmt.Fprintf(w, "# %s\n", printable(text))
	}
	_, err := fmt.Fprintln(w)
	return err
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
	for name, complete := range map[string]cobra.CompletionFunc{
		"listener": p.complete(listenerNames), "alpn": cobra.FixedCompletions([]string{"http/1.1", "h2", "postgresql"}, cobra.ShellCompDirectiveNoFileComp),
		"sni": cobra.NoFileCompletions, "source": cobra.NoFileCompletions, "port": cobra.NoFileCompletions,
	} {
		_ = c.RegisterFlagCompletionFunc(name, complete) // the flag is there
	}
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
