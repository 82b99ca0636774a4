package engine

import (
	"fmt"
	"runtime/debug"

	"github.com/ossdl/ossdl/internal/object"
)

// Panic is a panic of a function that the caller gave, as an error. So it can leave a goroutine of the library, end the call
// in good order, and be raised again in the caller's own goroutine.
type Panic struct {
	what  string // whose panic it is
	value any
	stack []byte
}

// NewPanic makes the error of a panic with a value, in a function that what names. No retry helps against it.
func NewPanic(what string, value any, stack []byte) error {
	if p, ok := value.(*Panic); ok {
		return &object.PermanentError{Err: p} // of a function of the caller that called the library
	}
	return &object.PermanentError{Err: &Panic{what, value, stack}}
}

// Guard calls fn, a function that the caller gave. If it panics, Guard returns a [Panic].
func Guard(what string, fn func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = NewPanic(what, v, debug.Stack())
		}
	}()
	fn()
	return nil
}

func (p *Panic) Error() string {
	return fmt.Sprintf("panic in %s: %v\n\n%s", p.what, p.value, p.stack)
}

// Unwrap returns the value of the panic, if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}
