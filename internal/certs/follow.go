package certs

import "context"

// Read reads one file or credential:NAME, whole and from one generation of it.
func (f *Files) Read(spec string) ([]byte, error) {
	data, _, err := f.readAll([]string{spec}, 1)
	if err != nil {
		return nil, err
	}
	return data[0], nil
}

// Follow gives take what is in a file or credential:NAME now, and again after each
// change, as those of certificates are found, until ctx ends. It returns then. take
// is called on Follow's goroutine, with an error where the file cannot be read.
func (f *Files) Follow(ctx context.Context, spec string, take func(data []byte, err error)) {
	data, seen, err := f.readAll([]string{spec}, 1)
	if err == nil {
		take(data[0], nil)
	} else {
		take(nil, err)
	}
	w := newWatcher(DefaultSettle, DefaultPoll)
	w.watch(ctx, f.resolveAll([]string{spec}), seen, func() { take(f.Read(spec)) })
	w.run(ctx)
}
