package control

// ShrinkFeed makes the feed of a service forget all but the last n changes.
func ShrinkFeed(s *Service, n int) { s.feed.size = n }
