package wizard

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// keyboard reads a terminal for one form after the other. A form that reads the terminal itself goes on reading for a moment after its
// end, and takes a key that was for the next one.
type keyboard struct {
	chunks chan []byte
	rest   []byte
}

func newKeyboard(in io.Reader) *keyboard {
	k := &keyboard{chunks: make(chan []byte)}
	go func() { // A read cannot be called off: it ends with the process.
		defer close(k.chunks)
		for {
			buf := make([]byte, 1024)
			n, err := in.Read(buf)
			if n > 0 {
				k.chunks <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return k
}

// keys is what one form reads, until its end.
type keys struct {
	keyboard *keyboard
	end      chan struct{}
}

func (k *keys) Read(p []byte) (int, error) {
	if len(k.keyboard.rest) == 0 {
		select {
		case <-k.end:
			return 0, io.EOF
		case chunk, ok := <-k.keyboard.chunks:
			if !ok {
				return 0, io.EOF
			}
			k.keyboard.rest = chunk
		}
	}
	n := copy(p, k.keyboard.rest)
	k.keyboard.rest = k.keyboard.rest[n:]
	return n, nil
}

// raw lets every key through a terminal as it is typed, and returns what undoes that. Output stays as it is: who draws without reading
// the terminal counts on its line breaks.
func raw(in io.Reader) (func(), error) {
	f, ok := in.(*os.File)
	if !ok {
		return func() {}, nil
	}
	fd := int(f.Fd())
	was, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	restore := func() { _ = term.Restore(fd, was) } // it is gone, if that fails
	now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		now.Oflag |= unix.OPOST
		err = unix.IoctlSetTermios(fd, unix.TCSETS, now)
	}
	if err != nil {
		restore()
		return nil, err
	}
	return restore, nil
}
