package server

import (
	"errors"
	"fmt"

	"belay/internal/accesslog"
	"belay/internal/config"
	"belay/internal/route"
)

// Check validates what only the packages that use a value can judge, and reads the
// files of TLS; it binds nothing. All problems are joined; notes are no problems.
func Check(cfg *config.Config) (notes []string, err error) {
	var errs []error
	if err := accesslog.Validate(cfg.AccessLog.Format); err != nil && cfg.AccessLog.Format != "json" {
		errs = append(errs, fmt.Errorf("access_log.format: %w", err))
	}
	for _, l := range cfg.Listeners {
		if l.Protocol != config.ProtocolHTTP {
			continue
		}
		if _, err := route.Compile(l.Routes); err != nil {
			errs = append(errs, fmt.Errorf("listener.%s: %w", l.Name, err))
		}
	}
	notes, problems := checkTLS(cfg)
	return notes, errors.Join(append(errs, problems...)...)
}
