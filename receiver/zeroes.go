package receiver

// zeroes makes a range of a resync read as zeroes. Where the configuration names a granularity, its whole multiples are trimmed; what
// is left stays allocated as it is, and what is a hole stays one.
func (a *applier) zeroes(v *volume, off, n int64) error {
	if err := a.w.flush(); err != nil {
		return err
	}
	end := off + n
	if g := v.discard; g > 0 {
		first, last := (off+g-1)/g*g, end/g*g
		if first < last {
			if err := a.blank(v, off, first); err != nil {
				return err
			}
			if err := a.w.zero(v, first, last-first, true); err != nil {
				return err
			}
			off = last
		}
	}
	return a.blank(v, off, end)
}

// blank zeroes what is allocated from off to end.
func (a *applier) blank(v *volume, off, end int64) error {
	return v.allocated(off, end, func(off, n int64) error { return a.w.zero(v, off, n, false) })
}

// allocated calls do for each run from off to end that is not a hole.
func (v *volume) allocated(off, end int64, do func(off, n int64) error) error {
	for off < end {
		span := min(keepSpan, end-off)
		segments, err := v.disk.Segments(off, span)
		if err != nil {
			return &DiskError{Volume: v.number, Err: err}
		}
		for _, s := range segments {
			if s.Hole {
				continue
			}
			if err := do(s.Off, s.Len); err != nil {
				return err
			}
		}
		off += span
	}
	return nil
}
