package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Cron is a schedule in cron's five fields.
type Cron struct{ schedule cron.Schedule }

// ParseCron reads minute, hour, day of month, month and day of week, as crontab(5) has them.
func ParseCron(s string) (Cron, error) {
	if n := len(strings.Fields(s)); n != 5 {
		return Cron{}, fmt.Errorf("'%s' has %d fields; cron's are five: minute hour day month weekday", s, n)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	schedule, err := parser.Parse(s)
	if err != nil {
		return Cron{}, fmt.Errorf("'%s' is no schedule of cron (minute hour day month weekday): %w", s, err)
	}
	return Cron{schedule}, nil
}

// Next is the first time of the schedule behind t, in t's zone; zero if there is none within five years.
func (c Cron) Next(t time.Time) time.Time { return c.schedule.Next(t) }
