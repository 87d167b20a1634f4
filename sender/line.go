package sender

import (
	"context"
	"time"

	"drship/wan/frame"
)

// lineBurst is how far ahead of the line's ceiling the pump may run.
const lineBurst = 20 * time.Millisecond

// sendData sends what the ceiling of the line counts, n bytes of payload, and takes note of how long the line made it wait.
func (s *Stream) sendData(ctx context.Context, m frame.Message, n int) error {
	start := time.Now()
	err := s.cfg.Link.Send(ctx, m)
	now := time.Now()
	s.stats.Waited.Add(int64(now.Sub(start)))
	if s.cfg.LineRate == nil {
		return err
	}
	if limit := s.cfg.LineRate(); limit > 0 {
		if s.lineFree.Before(now) {
			s.lineFree = now
		}
		s.lineFree = s.lineFree.Add(time.Duration(float64(n) / float64(limit) * float64(time.Second)))
	}
	return err
}

// lineWait is how long the pump has to wait for the ceiling of the line. Only the pump uses it.
func (s *Stream) lineWait() time.Duration {
	return max(time.Until(s.lineFree), lineBurst) - lineBurst
}
