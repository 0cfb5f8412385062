//! Paces in paused time: how much flows in how long, who gets it, and what is left behind.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{join_all, poll_fn, poll_immediate};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::{Direction, Limit, LimitConfig, Limits, LocalTime, Pace, PacedIo, Rate, WallClock};

const MIB: u64 = 1 << 20;

/// Takes and gives whatever is asked, and counts.
#[derive(Debug, Default)]
struct Endless {
    written: u64,
    vectored: u64,
    largest: usize,
    /// Reads find nothing.
    is_idle: bool,
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written += buf.len() as u64;
        self.largest = self.largest.max(buf.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        self.vectored += bytes as u64;
        self.largest = self.largest.max(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_idle {
            return Poll::Pending;
        }
        let bytes = buf.remaining();
        buf.initialize_unfilled();
        buf.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

fn upload_at(text: &str) -> Pace {
    Pace::new(Limits { upload: rate(text), ..Limits::default() })
}

async fn write(io: &mut PacedIo<Endless>, bytes: &[u8]) -> usize {
    poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await.unwrap()
}

async fn read(io: &mut PacedIo<Endless>, bytes: &mut [u8]) -> usize {
    let mut buf = ReadBuf::new(bytes);
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)).await.unwrap();
    buf.filled().len()
}

/// Writes on so many connections for so long; what each of them wrote.
async fn flood(pace: &Pace, streams: usize, time: Duration) -> Vec<u64> {
    let body = vec![0_u8; 64 << 10];
    let until = Instant::now() + time;
    let writers = (0..streams).map(|_| async {
        let mut io = PacedIo::new(Endless::default(), pace.clone());
        while timeout(until - Instant::now(), write(&mut io, &body)).await.is_ok() {}
        io.get_ref().written
    });
    join_all(writers).await
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_by_any_number_of_streams_and_shared_evenly() {
    for text in ["64KiB/s", "2MiB/s", "100MiB/s"] {
        for streams in [1, 2, 7, 16] {
            let pace = upload_at(text);
            let written = flood(&pace, streams, Duration::from_secs(20)).await;
            let all: u64 = written.iter().sum();
            let due = rate(text).unwrap().bytes_per_second() * 20;
            // A tenth of a second or 16 KiB; at the beginning more, while each stream does not know of the others yet.
            let burst = (due / 200).max(16 << 10) * 5 / 2;
            assert!(all <= due + burst && all >= due * 98 / 100, "{text} by {streams}: {all} of {due}");
            assert_eq!(pace.bytes_sent(), all);
            let (least, most) = (written.iter().min().unwrap(), written.iter().max().unwrap());
            // Who came first had the burst.
            assert!(most - least <= most / 20 + burst, "{text} by {streams}: from {least} to {most}");
        }
    }
}

/// In no tenth of a second flows much more than in any other.
#[tokio::test(start_paused = true)]
async fn bytes_flow_smoothly() {
    let pace = upload_at("1MiB/s");
    let watched = pace.clone();
    let watch = async move {
        let mut before = 0;
        let mut most = 0;
        for _ in 0..100 {
            sleep(Duration::from_millis(100)).await;
            let now = watched.bytes_sent();
            most = most.max(now - before);
            before = now;
        }
        most
    };
    let (most, _) = tokio::join!(watch, flood(&pace, 8, Duration::from_secs(10)));
    assert!(most <= 2 * MIB / 10, "{most} bytes in a tenth of a second");
}

#[tokio::test(start_paused = true)]
async fn downloads_are_paced_too_and_the_other_way_is_free() {
    let pace = Pace::new(Limits { download: rate("1MiB/s"), ..Limits::default() });
    let mut io = PacedIo::new(Endless::default(), pace.clone());
    let began = Instant::now();
    let mut buffer = vec![0; 100_000];
    let mut bytes = 0;
    while bytes < 5 * MIB {
        bytes += read(&mut io, &mut buffer).await as u64;
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(4850) && took < Duration::from_millis(5100), "{took:?}");
    assert_eq!(pace.bytes_received(), bytes);
    let began = Instant::now();
    assert_eq!(write(&mut io, &vec![0; 10 << 20]).await, 10 << 20);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// A connection on which nothing comes in is polled all the time, and takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn idle_streams_take_nothing() {
    let pace = Pace::new(Limits { download: rate("1MiB/s"), ..Limits::default() });
    let idle = (0..20).map(|_| async {
        let io = Endless { is_idle: true, ..Endless::default() };
        let mut io = PacedIo::new(io, pace.clone());
        let mut buffer = [0; 1000];
        for _ in 0..1000 {
            // A connection is polled whenever anything happens to its task.
            let _ = timeout(Duration::from_millis(5), read(&mut io, &mut buffer)).await;
        }
    });
    let busy = async {
        let mut io = PacedIo::new(Endless::default(), pace.clone());
        let (mut buffer, mut bytes) = (vec![0; 100_000], 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            bytes += read(&mut io, &mut buffer).await as u64;
        }
        bytes
    };
    let (_, bytes) = tokio::join!(join_all(idle), busy);
    assert!(bytes > 4 * MIB * 98 / 100, "only {bytes} bytes");
}

/// A wait that is given up holds nothing: those who stay get all of the rate.
#[tokio::test(start_paused = true)]
async fn waits_that_are_given_up_leave_nothing_behind() {
    let pace = upload_at("1MiB/s");
    pace.charge(Direction::Upload, MIB);
    let mut io = PacedIo::new(Endless::default(), pace.clone());
    for _ in 0..1000 {
        assert!(poll_immediate(write(&mut io, &[0; 1000])).await.is_none());
        assert!(poll_immediate(pace.settled(Direction::Upload)).await.is_none());
        assert!(
            poll_immediate(write(&mut PacedIo::new(Endless::default(), pace.clone()), &[0])).await.is_none()
        );
    }
    let began = Instant::now();
    pace.settled(Direction::Upload).await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(pace.bytes_sent(), MIB);
    drop(io);
    assert_eq!(pace.shared.streams.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn vectored_writes_stay_vectored_and_are_cut() {
    let (first, second, third) = (vec![0; 1000], vec![0; 500], vec![0; 9000]);
    let bufs = [IoSlice::new(&[]), IoSlice::new(&first), IoSlice::new(&second), IoSlice::new(&third)];
    let mut free = PacedIo::new(Endless::default(), Pace::unlimited());
    let written = poll_fn(|cx| Pin::new(&mut free).poll_write_vectored(cx, &bufs)).await.unwrap();
    assert_eq!((written, free.get_ref().vectored, free.is_write_vectored()), (10_500, 10_500, true));

    // The least rate: 8 KiB at a time.
    let mut slow = PacedIo::new(Endless::default(), upload_at("1KiB/s"));
    let written = poll_fn(|cx| Pin::new(&mut slow).poll_write_vectored(cx, &bufs)).await.unwrap();
    assert_eq!(written, 1500);
    let large = [IoSlice::new(&[]), IoSlice::new(&third)];
    let mut slow = PacedIo::new(Endless::default(), upload_at("1KiB/s"));
    let written = poll_fn(|cx| Pin::new(&mut slow).poll_write_vectored(cx, &large)).await.unwrap();
    assert_eq!((written, slow.get_ref().largest), (8 << 10, 8 << 10));
}

#[tokio::test(start_paused = true)]
async fn whole_bodies_are_paced_by_charges() {
    let pace = upload_at("2MiB/s");
    let began = Instant::now();
    for _ in 0..10 {
        pace.settled(Direction::Upload).await;
        pace.charge(Direction::Upload, 4 * MIB);
    }
    pace.settled(Direction::Upload).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(19_900) && took <= Duration::from_secs(20), "{took:?}");
    pace.charge(Direction::Upload, 100 * MIB);
    pace.refund(Direction::Upload, 100 * MIB);
    pace.settled(Direction::Upload).await;
    assert_eq!((began.elapsed(), pace.bytes_sent()), (took, 40 * MIB));
}

/// A clock that shows `start` now and goes on with tokio's time.
fn clock(start: LocalTime) -> WallClock {
    let began = Instant::now();
    Arc::new(move || {
        let minute = u64::from(start.minute) + began.elapsed().as_secs() / 60;
        let weekday = (u64::from(start.weekday) + minute / 1440) % 7;
        LocalTime { weekday: weekday as u8, minute: (minute % 1440) as u16 }
    })
}

fn configured(text: &str) -> Limits {
    toml::from_str::<LimitConfig>(text).unwrap().limits()
}

#[tokio::test(start_paused = true)]
async fn the_limit_changes_when_the_clock_enters_and_leaves_a_window() {
    let limits = configured(
        "limit_upload = '1MiB/s'
        [[limit.window]]
        days = ['mon-fri']
        from = '08:00'
        to = '08:10'
        upload = '100KiB/s'
        [[limit.window]]
        from = '08:00'
        to = '08:20'
        upload = 'off'",
    );
    let pace = Pace::with_clock(limits, clock(LocalTime { weekday: 4, minute: 7 * 60 + 50 }));
    let ten_minutes = Duration::from_secs(600);
    let written: u64 = flood(&pace, 4, ten_minutes).await.iter().sum();
    assert!(written.abs_diff(600 * MIB) < 10 * MIB, "{written} before the window");
    let written: u64 = flood(&pace, 4, ten_minutes).await.iter().sum();
    assert!(written.abs_diff(600 * 100 * 1024) < 2 * MIB, "{written} in the window");
    // Now nothing limits it.
    sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    pace.charge(Direction::Upload, 10_000 * MIB);
    pace.settled(Direction::Upload).await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    sleep(ten_minutes).await;
    let written: u64 = flood(&pace, 4, ten_minutes).await.iter().sum();
    assert!(written.abs_diff(600 * MIB) < 10 * MIB, "{written} after the windows");
}

/// Whoever waits for minutes at a low rate goes on when the window ends.
#[tokio::test(start_paused = true)]
async fn who_waits_notices_the_end_of_a_window() {
    let limits = configured("[[limit.window]]\nfrom = '00:00'\nto = '12:00'\nupload = '1KiB/s'");
    let pace = Pace::with_clock(limits, clock(LocalTime { weekday: 0, minute: 12 * 60 - 1 }));
    pace.charge(Direction::Upload, 10 * MIB);
    let began = Instant::now();
    pace.settled(Direction::Upload).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(59) && took <= Duration::from_secs(62), "{took:?}");
}

#[tokio::test]
async fn no_limit_asks_no_clock() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let clock: WallClock = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        LocalTime { weekday: 0, minute: 0 }
    });
    let pace = Pace::with_clock(Limits::default(), clock);
    let mut io = PacedIo::new(Endless::default(), pace.clone());
    for _ in 0..100 {
        assert_eq!(write(&mut io, &[0; 1000]).await, 1000);
    }
    assert_eq!((asked.load(Ordering::Relaxed), pace.bytes_sent()), (0, 100_000));
    assert!(!pace.is_limited(Direction::Upload) && pace.rate(Direction::Upload).is_none());
}

#[test]
fn windows_contain_what_people_mean() {
    let at = |weekday, hour: u16, minute| LocalTime { weekday, minute: hour * 60 + minute };
    let up = |limits: &Limits, time| limits.rate_at(Direction::Upload, time).map(Rate::bytes_per_second);
    let limits = configured(
        "limit_upload = '2MiB/s'
        [[limit.window]]
        days = ['fri-sat', 'Tuesday']
        from = '22:00'
        to = '6:30'
        upload = '1KiB/s'
        [[limit.window]]
        days = 'sun'
        download = '3KiB/s'",
    );
    let (night, usual) = (Some(1024), Some(2 << 20));
    for (time, due) in [
        (at(4, 21, 59), usual),
        (at(4, 22, 0), night),
        (at(5, 6, 29), night),
        (at(5, 6, 30), usual),
        (at(5, 23, 59), night),
        (at(6, 0, 0), night),
        (at(6, 22, 0), usual),
        (at(0, 3, 0), usual),
        (at(1, 3, 0), usual),
        (at(1, 23, 0), night),
        (at(2, 3, 0), night),
        (at(3, 3, 0), usual),
    ] {
        assert_eq!(up(&limits, time), due, "{time:?}");
    }
    assert_eq!(limits.rate_at(Direction::Download, at(6, 23, 59)), rate("3KiB/s"));
    assert_eq!(limits.rate_at(Direction::Download, at(0, 0, 0)), None);
    assert_eq!(limits.rate_min(Direction::Upload), rate("1KiB/s"));
    let over_the_week_end = configured("[[limit.window]]\ndays = ['sat-mon']\nupload = '1MiB/s'");
    let limited = (0..7).filter(|day| up(&over_the_week_end, at(*day, 12, 0)).is_some());
    assert_eq!(limited.collect::<Vec<u8>>(), [0, 5, 6]);
}

#[test]
fn configuration_is_read_whole() {
    let config: LimitConfig = toml::from_str(
        "limit_upload = '2MiB/s'\nlimit_download = 'off'\ncreates_per_second = 3
        [[limit.window]]\ndays = ['mon-fri']\nfrom = '08:00'\nto = '24:00'\nupload = '500KiB/s'",
    )
    .unwrap();
    assert_eq!(config.limit_download, Some(Limit::Off));
    let limits = config.limits();
    assert_eq!((limits.upload, limits.download), (rate("2MiB/s"), None));
    assert_eq!((limits.creates_per_second, limits.windows.len()), (Some(3.0), 1));
    assert_eq!(toml::from_str::<LimitConfig>("").unwrap().limits(), Limits::default());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let window = |text: &str| format!("\n[[limit.window]]\n{text}\n");
    for (text, reason) in [
        ("limit_uplod = '2MiB/s'".to_owned(), "limit_upload"),
        ("limit_upload = 500".to_owned(), "it has no unit"),
        ("limit_upload = 1.5".to_owned(), "it has no unit"),
        ("limit_upload = true".to_owned(), "a rate such as"),
        ("limit_upload = '2MB'".to_owned(), "the rate is MB/s"),
        ("creates_per_second = 0".to_owned(), "cannot be kept"),
        ("creates_per_second = -1".to_owned(), "cannot be kept"),
        ("creates_per_second = nan".to_owned(), "cannot be kept"),
        ("creates_per_second = 'three'".to_owned(), "a number of new objects"),
        ("[limit]\nwindows = []".to_owned(), "window"),
        (window("upload = '1MiB/s'\nfrom = '08:00'"), "both `from` and `to`"),
        (window("upload = '1MiB/s'\nfrom = '08:00'\nto = '08:00'"), "ends when it begins"),
        (window("upload = '1MiB/s'\nfrom = '24:00'\nto = '08:00'"), "begins at 00:00"),
        (window("from = '08:00'\nto = '09:00'"), "limits nothing"),
        (window("upload = '1MiB/s'\nfrom = '8'\nto = '09:00'"), "not a time of day"),
        (window("upload = '1MiB/s'\nfrom = '08:60'\nto = '09:00'"), "not a time of day"),
        (window("upload = '1MiB/s'\nfrom = '24:01'\nto = '09:00'"), "not a time of day"),
        (window("upload = '1MiB/s'\nfrom = '+8:00'\nto = '09:00'"), "not a time of day"),
        (window("upload = '1MiB/s'\ndays = ['mo-fr']"), "not a day"),
        (window("upload = '1MiB/s'\ndays = []"), "no day is named"),
        (window("upload = '1MiB/s'\ndays = ['mon-']"), "not a day"),
        (window("upload = '1MiB/s'\nday = 'mon'"), "days"),
    ] {
        let error = toml::from_str::<LimitConfig>(&text).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("line"), "{text}: {error}");
    }
}
