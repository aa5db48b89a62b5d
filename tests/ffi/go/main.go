// The library from Go, through examples/ffi/go.   usage: main MODEL
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"infer"
)

func generate(session *infer.Session) (string, error) {
	var text strings.Builder
	err := session.Generate("Once upon a time", 8, func(piece string) bool {
		text.WriteString(piece)
		return true
	})
	return text.String(), err
}

// Several goroutines share a session: the answers must not depend on that.
func together(session *infer.Session) error {
	alone, err := generate(session)
	if err != nil || alone == "" {
		return fmt.Errorf("generated %q: %v", alone, err)
	}
	var group sync.WaitGroup
	results := make(chan error, 4)
	for i := 0; i < cap(results); i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			text, err := generate(session)
			if err == nil && text != alone {
				err = fmt.Errorf("%q became %q", alone, text)
			}
			results <- err
		}()
	}
	group.Wait()
	close(results)
	for err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

func useModel(path string) error {
	model, err := infer.Load(path)
	if err != nil {
		return err
	}
	session, err := model.NewSession()
	model.Close() // the session keeps it
	if err != nil {
		return err
	}
	defer session.Close()
	return together(session)
}

func readSentence(string) error {
	var failure *infer.Error
	_, err := infer.Load("/nowhere/model.gguf")
	if !errors.As(err, &failure) || failure.Status != -3 ||
		!strings.Contains(failure.Sentence, "/nowhere/model.gguf") {
		return fmt.Errorf("a missing file gave %v", err)
	}
	return nil
}

func main() {
	failed := 0
	cases := []struct {
		name string
		run  func(string) error
	}{
		{"go: generates from many goroutines", useModel},
		{"go: says what is wrong", readSentence},
	}
	for i, c := range cases {
		verdict := "ok"
		err := c.run(os.Args[1])
		if err != nil {
			verdict = "not ok"
			failed = 1
		}
		fmt.Printf("%s %d - %s\n", verdict, i+1, c.name)
		if err != nil {
			fmt.Printf("# %v\n", err)
		}
	}
	fmt.Printf("1..%d\n", len(cases))
	os.Exit(failed)
}
