package certs

// trusted is what a verifier takes from files.
type trusted struct {
	ca, crl *resource // nil: none is configured
	good    *crlSet   // the last that fitted the authorities; the store's mu guards it
}

// resources gives the store's resources for t.
func (f *trusted) resources(s *Store, t *Trust) (all []*resource) {
	if t.CA != "" {
		f.ca = s.add(caResource(&s.options.Files, t.CA))
		all = append(all, f.ca)
	}
	if t.CRL != "" {
		f.crl = s.add(crlResource(&s.options.Files, t.CRL))
		all = append(all, f.crl)
	}
	return all
}

// complete puts into v what comes from files, and gives a hash of the
// authorities; ok says that all of it is there. Lists that the authorities did
// not sign are not used; the last that fitted stay, so that the rest can go on
// changing. The store's mu is held.
func (f *trusted) complete(s *Store, v verifier) (_ *verifier, sum []byte, ok bool) {
	if f.ca == nil {
		return &v, nil, true
	}
	a, ok := f.ca.value.(*authorities)
	if !ok {
		return nil, nil, false
	}
	v.roots, sum = a.pool, a.sum[:]
	if f.crl == nil {
		return &v, sum, true
	}
	set, ok := f.crl.value.(*crlSet)
	if !ok {
		return nil, nil, false
	}
	err := set.verify(a.certs, f.crl.name)
	switch {
	case err == nil:
		f.good = set
		if f.crl.err == nil {
			f.crl.state = Active
		}
	case f.good == nil:
		f.crl.state = Warming
	default:
		f.crl.state = LastGood
	}
	if err != nil && f.crl.mismatch == nil {
		s.events = append(s.events, Event{Kind: EventFailed, Resource: f.crl.name, Of: KindCRL, State: f.crl.state, Err: err})
	}
	f.crl.mismatch = err
	v.crl = f.good
	return &v, sum, f.good != nil
}
