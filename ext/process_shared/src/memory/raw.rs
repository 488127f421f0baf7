//! Numbers at an address: one read or one write each.

use super::number::Number;

/// Reads one number. Other processes may write it meanwhile: mod.rs says what that means.
///
/// # Safety
/// `address` lies in mapped memory, with room for T.
#[inline(always)]
pub unsafe fn load<T: Number>(address: *const u8, swapped: bool) -> T::Native {
    let address = address.cast::<T::Native>();
    // SAFETY: as the caller promises. An aligned read is volatile, so that it happens once and is not torn.
    let native =
        unsafe { if address.is_aligned() { address.read_volatile() } else { address.read_unaligned() } };
    if swapped { T::swap(native) } else { native }
}

/// Writes one number.
///
/// # Safety
/// As for `load`.
#[inline(always)]
pub unsafe fn store<T: Number>(address: *mut u8, native: T::Native, swapped: bool) {
    let native = if swapped { T::swap(native) } else { native };
    let address = address.cast::<T::Native>();
    // SAFETY: as the caller promises.
    unsafe {
        if address.is_aligned() { address.write_volatile(native) } else { address.write_unaligned(native) }
    }
}
