package journal

// Usage is what a store takes up, in bytes.
type Usage struct {
	Disk     int64 // all of Pebble's files, write-ahead logs included
	WAL      int64 // write-ahead logs, part of Disk
	MemTable int64 // memory of memtables
	Cache    int64 // memory of the block cache
	Reserve  int64 // kept for when the file system is full; 0 once given up
	Journal  int64 // of Options.MaxJournal
	Staged   int64 // of Options.MaxStaged
	History  int64 // of Options.MaxHistory
	Low      bool  // the file system was full
}

// Usage returns the figures for the status; zero once the store is closed or has failed.
func (s *Store) Usage() Usage {
	if err := s.enter(); err != nil {
		return Usage{}
	}
	defer s.gate.leave()
	m := s.db.Metrics()
	u := Usage{
		Disk:     int64(m.DiskSpaceUsage()),
		WAL:      int64(m.WAL.PhysicalSize),
		MemTable: int64(m.MemTable.Size + m.MemTable.ZombieSize),
		Cache:    m.BlockCache.Size,
		Journal:  s.o.MaxJournal - s.log.Room(),
		Staged:   s.staging.Bytes(),
		History:  s.history.Bytes(),
		Low:      s.low.Load(),
	}
	if s.o.Reserve > 0 && !u.Low {
		u.Reserve = s.o.Reserve
	}
	return u
}
