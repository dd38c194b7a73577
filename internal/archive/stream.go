package archive

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// stream reads the entries of an archive, which may be anybody's.
type stream struct {
	tar     *tar.Reader
	entries int
	notes   int
	// note is told what whoever packed it left out.
	note func(name, why string)
}

// next returns the next entry, io.EOF behind the last.
func (s *stream) next() (*tar.Header, error) {
	for {
		h, err := s.tar.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			return nil, fmt.Errorf("archive: %w", err)
		case h.Typeflag == tar.TypeXGlobalHeader:
			if s.notes++; s.notes > MaxNotes+1 {
				return nil, fmt.Errorf("%w: more than %d notes of what was left out", ErrUnsafe, MaxNotes+1)
			}
			if s.note != nil {
				name, why, _ := strings.Cut(h.PAXRecords[Note], "\n")
				s.note(clip(name), clip(why))
			}
			continue
		}
		if s.entries++; s.entries > MaxEntries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrUnsafe, MaxEntries)
		}
		return h, nil
	}
}

// pieceOf says which part of a file an entry brings.
func pieceOf(as string, h *tar.Header) (Piece, error) {
	p := Piece{Name: as, Size: h.Size}
	text, ok := h.PAXRecords[Offset]
	if !ok {
		return p, nil
	}
	var err error
	if p.Offset, err = strconv.ParseInt(text, 10, 64); err != nil || p.Offset <= 0 || p.Offset+p.Size < p.Offset {
		return p, unsafe(as, "begins at an offset that is none")
	}
	if p.Prefix, err = hex.DecodeString(h.PAXRecords[Prefix]); err != nil || len(p.Prefix) != prefixSize {
		return p, unsafe(as, "does not say what comes before its offset")
	}
	p.Size += p.Offset
	return p, nil
}
