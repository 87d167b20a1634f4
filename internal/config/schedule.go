package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxRateRules bounds a rate schedule.
const maxRateRules = 64

// RateRule is one line of a rate schedule: from From to To on Days the rate is Rate.
type RateRule struct {
	Days [7]bool // by time.Weekday
	From int     // minute of the day
	To   int     // minute of the day, exclusive; not after From: the rule ends on the next day
	Rate int64   // bytes a second, 0 for none
}

// RateSchedule is a link rate by time of the week: the first rule that fits, else Else.
type RateSchedule struct {
	Rules []RateRule
	Else  int64 // bytes a second, 0 for no ceiling
}

// ParseRateSchedule reads "mon-fri 08:00-18:00 20M; sat,sun 10:00-12:00 40M; else 80M". Days may be left out. Rates
// are bytes a second; "unlimited" is 0.
func ParseRateSchedule(s string) (RateSchedule, error) {
	var out RateSchedule
	seen := false
	for part := range strings.SplitSeq(s, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		if seen {
			return out, errors.New("nothing may follow the rule else")
		}
		rate, err := parseRate(words[len(words)-1])
		if err != nil {
			return out, err
		}
		if words[0] == "else" && len(words) == 2 {
			out.Else, seen = rate, true
			continue
		}
		rule := RateRule{Days: [7]bool{true, true, true, true, true, true, true}, Rate: rate}
		switch len(words) {
		case 3:
			if rule.Days, err = parseDays(words[0]); err != nil {
				return out, err
			}
		case 2:
		default:
			return out, fmt.Errorf("'%s' is not [DAYS] HH:MM-HH:MM RATE or else RATE", strings.TrimSpace(part))
		}
		if rule.From, rule.To, err = parseSpan(words[len(words)-2]); err != nil {
			return out, err
		}
		if out.Rules = append(out.Rules, rule); len(out.Rules) > maxRateRules {
			return out, fmt.Errorf("more than %d rules", maxRateRules)
		}
	}
	if len(out.Rules) == 0 && !seen {
		return out, errors.New("the schedule is empty")
	}
	return out, nil
}

// At returns the rate at a local time.
func (s RateSchedule) At(t time.Time) int64 {
	minute := t.Hour()*60 + t.Minute()
	for _, r := range s.Rules {
		today, yesterday := r.Days[t.Weekday()], r.Days[(t.Weekday()+6)%7]
		overnight := r.To <= r.From
		switch {
		case !overnight && today && minute >= r.From && minute < r.To,
			overnight && today && minute >= r.From,
			overnight && yesterday && minute < r.To:
			return r.Rate
		}
	}
	return s.Else
}

func parseRate(s string) (int64, error) {
	if s == "unlimited" {
		return 0, nil
	}
	n, err := parseNumber(s, 'k')
	if err != nil {
		return 0, err
	}
	if n > maxRateKiB {
		return 0, fmt.Errorf("rate %s is out of range [0..%dK]", s, maxRateKiB)
	}
	return n * 1024, nil
}

func parseDays(s string) ([7]bool, error) {
	var days [7]bool
	names := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	find := func(name string) int {
		for i, n := range names {
			if strings.EqualFold(n, name) {
				return i
			}
		}
		return -1
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := find(first), find(last)
		if a < 0 || b < 0 {
			return days, fmt.Errorf("'%s' are no days; write mon-fri or sat,sun", s)
		}
		for d := a; ; d = (d + 1) % 7 {
			days[d] = true
			if d == b {
				break
			}
		}
	}
	return days, nil
}

func parseSpan(s string) (from, to int, err error) {
	a, b, ok := strings.Cut(s, "-")
	from, errA := parseClock(a)
	to, errB := parseClock(b)
	if !ok || errA != nil || errB != nil {
		return 0, 0, fmt.Errorf("'%s' is not HH:MM-HH:MM", s)
	}
	return from, to, nil
}

// parseClock reads HH:MM from 00:00 to 24:00 as a minute of the day.
func parseClock(s string) (int, error) {
	h, m, ok := strings.Cut(s, ":")
	hour, errH := strconv.ParseUint(h, 10, 8)
	minute, errM := strconv.ParseUint(m, 10, 8)
	if !ok || errH != nil || errM != nil || hour > 24 || minute > 59 || hour == 24 && minute > 0 {
		return 0, errors.New("not a time")
	}
	return int(hour)*60 + int(minute), nil
}

// ResyncAfterResource is the resource that resync-after names, as RES or RES/VOL.
func ResyncAfterResource(s string) string {
	name, _, _ := strings.Cut(s, "/")
	return name
}
