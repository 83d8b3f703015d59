package iso

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"metalrise.dev/iso/isotest"
)

func TestCacheMakesEachImageOnce(t *testing.T) {
	b := open(t, isotest.Options{})
	c := NewCache(10, 1<<20)
	var made atomic.Int32
	var wg sync.WaitGroup
	images := make([]*Image, 200)
	for i := range images {
		wg.Go(func() {
			im, err := c.Image(fmt.Sprint(i%4), func() (*Image, error) {
				made.Add(1)
				return b.Personalise(Personal{Ignition: []byte(config)})
			})
			if err != nil {
				t.Error(err)
			}
			images[i] = im
		})
	}
	wg.Wait()
	if made.Load() != 4 || c.Len() != 4 || images[0] == nil || images[0] != images[4] || images[0] == images[1] {
		t.Errorf("%d made, %d kept", made.Load(), c.Len())
	}
}

func TestCacheIsBounded(t *testing.T) {
	b := open(t, isotest.Options{})
	render := func() (*Image, error) { return b.Personalise(Personal{Ignition: noise(10_000)}) }
	one, err := render()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cache{NewCache(3, 1<<30), NewCache(1000, 3*one.Held())} {
		for i := range 50 {
			if _, err := c.Image(fmt.Sprint(i), render); err != nil {
				t.Fatal(err)
			}
			// asked for again and again, so never evicted
			if _, err := c.Image("0", func() (*Image, error) { t.Error("made again"); return render() }); err != nil {
				t.Fatal(err)
			}
		}
		if c.Len() != 3 || c.Held() != 3*one.Held() {
			t.Errorf("%d images of %d bytes", c.Len(), c.Held())
		}
		c.Drop("0")
		c.Drop("nosuch")
		if c.Len() != 2 || c.Held() != 2*one.Held() {
			t.Errorf("after drop: %d images of %d bytes", c.Len(), c.Held())
		}
	}
	tiny := NewCache(5, 1)
	if _, err := tiny.Image("x", render); err != nil || tiny.Len() != 1 {
		t.Error("the image asked for last is not kept")
	}
}

func TestCacheKeepsNoErrors(t *testing.T) {
	b := open(t, isotest.Options{})
	c := NewCache(5, 1<<20)
	bad := errors.New("bad")
	if _, err := c.Image("x", func() (*Image, error) { return nil, bad }); !errors.Is(err, bad) || c.Len() != 0 {
		t.Error(err, c.Len())
	}
	if im, err := c.Image("x", func() (*Image, error) { return b.Personalise(Personal{}) }); err != nil || im == nil {
		t.Error(err)
	}
}
